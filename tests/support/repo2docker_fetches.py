"""repo2docker itself, in the version of our image for builds and in a Python of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import uv

from tests.support.paths import CHECKOUT, TESTS, share_packages

_REQUIREMENTS = CHECKOUT / "deploy" / "images" / "repo2docker" / "requirements.txt"
_PROGRAM = TESTS / "support" / "repo2docker_provider.py"


@dataclass(frozen=True)
class Repo2docker:
    """repo2docker for the Python at `python`; it may leave files in `work`."""

    python: Path
    work: Path

    @classmethod
    def install(cls, folder: Path) -> Self:
        """Install what the image has, into an empty folder."""
        share_packages(folder)
        uv_program = [uv.find_uv_bin(), "--quiet", "--cache-dir", str(folder / "uv-cache")]
        subprocess.run([*uv_program, "venv", "--python", sys.executable, str(folder / "env")], check=True)
        python = folder / "env" / "bin" / "python"
        install = ["pip", "install", "--python", str(python), "--requirement", str(_REQUIREMENTS)]
        subprocess.run([*uv_program, *install], check=True)
        work = folder / "work"
        work.mkdir()
        return cls(python, work)

    def fetch(self, provider: str, repo_url: str, ref: str, *, places: Mapping[str, str], folder: Path) -> Any:
        """Have a content provider fetch into `folder`; return what its `detect` returned.

        `places` are, by the beginning of an address, where that is here; `installations` is that of the list of
        Dataverses.
        """
        request = {
            "provider": provider, "repo_url": repo_url, "ref": ref, "places": dict(places), "folder": str(folder),
        }  # fmt: skip
        environ = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        process = subprocess.run(
            [str(self.python), str(_PROGRAM)], input=json.dumps(request), capture_output=True, text=True, check=False,
            cwd=self.work, env=environ | {"R2D_DATAVERSE_INSTALLATIONS_URL": places.get("installations", "")},
        )  # fmt: skip
        assert process.returncode == 0, process.stderr
        return json.loads(process.stdout.splitlines()[-1])
