"""What a build and a start take on one's own machine, where the process executor builds and nothing is a stub."""

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uv

from tests.load.table import Row
from tests.support.api_launches import ApiLaunch, git_spec
from tests.support.builder_processes import Builders, running_builders
from tests.support.forge import Forge
from tests.support.paths import share_packages
from tests.support.polling import eventually
from tests.support.stack import Stack

REQUIREMENTS = "numpy\npandas\nmatplotlib\nrequests\nscipy\n"
LARGE_FILES = 40_000
LARGE_BYTES = 2**30
MAKE_LARGE = f"""#!/usr/bin/env python
import os, sysconfig
from pathlib import Path
packages = Path(sysconfig.get_path("purelib"))
for folder in range(400):
    (packages / f"large/{{folder}}").mkdir(parents=True)
    for number in range({LARGE_FILES} // 400):
        (packages / f"large/{{folder}}/{{number}}.bin").write_bytes(os.urandom({LARGE_BYTES} // {LARGE_FILES}))
"""
_SECONDS = 600.0


async def packages(turns: int) -> list[Row]:
    """Build five packages from a warm cache, beside `uv venv && uv pip install` by hand, in turns."""
    return await asyncio.to_thread(_packages, turns)


def _packages(turns: int) -> list[Row]:
    builds: list[float] = []
    by_hand: list[float] = []
    with _folder() as folder, Forge(folder / "forge") as forge:
        (folder / "data").mkdir()
        share_packages(folder / "data")
        with running_builders(folder, executor="process", allowed_networks="127.0.0.0/8") as builders:
            for turn in range(turns + 1):
                seconds = _build(builders, forge, f"repo-{turn}"), _by_hand(folder / f"hand-{turn}", folder / "data")
                if turn:  # the first fills the cache, and makes what builds share
                    builds.append(seconds[0])
                    by_hand.append(seconds[1])

    ratio = statistics.median(builds) / statistics.median(by_hand)
    return [
        Row("Five packages, on one's own machine", ""),
        Row("uv by hand", _spread(by_hand), numbers={"by_hand_p50": statistics.median(by_hand)}),
        Row("a build, from request to end", _spread(builds), numbers={"build_p50": statistics.median(builds)}),
        Row("a build beside uv by hand", f"{ratio:.2f}", goal="<= 1.3", numbers={"ratio": ratio}),
    ]


def _build(builders: Builders, forge: Forge, name: str) -> float:
    """Return the seconds of a build of a new repository. What follows a build is over when this returns."""
    sha = forge.create_repo("org", name, {"requirements.txt": REQUIREMENTS})
    url = f"{forge.url}/org/{name}"
    started_at = time.monotonic()
    build_id = builders.request_build(url, sha)["build_id"]
    with builders.client.stream("GET", f"{builders.api.url}/builds/{build_id}/events", timeout=_SECONDS) as events:
        for _ in events.iter_lines():
            pass
    seconds = time.monotonic() - started_at
    state = builders.read(build_id)["state"]
    if state != "built":
        raise RuntimeError(f"not built but {state}: {builders.log(build_id)[-3000:]}")

    records = Path(str(builders.settings["data_dir"])) / "run" / "processes"
    eventually(lambda: not list(records.glob("*.json")), "the upkeep after the build has ended", _SECONDS)
    return seconds


def _by_hand(folder: Path, data: Path) -> float:
    folder.mkdir()
    (folder / "requirements.txt").write_text(REQUIREMENTS)
    script = '"$0" venv --quiet --python "$1" && "$0" pip install --quiet -r requirements.txt'
    environ = {**os.environ, "UV_CACHE_DIR": str(data / "uv-cache")}
    environ.pop("VIRTUAL_ENV", None)
    started_at = time.monotonic()
    subprocess.run(["/bin/sh", "-c", script, uv.find_uv_bin(), sys.executable], cwd=folder, env=environ, check=True)
    return time.monotonic() - started_at


async def large(turns: int) -> list[Row]:
    """Start servers of a large environment and of a small one, in turns."""
    return await asyncio.to_thread(_large, turns)


def _large(turns: int) -> list[Row]:
    seconds: dict[str, list[float]] = {"small": [], "large": []}
    with _folder() as folder, Forge(folder / "forge") as forge:
        for name, files in (("small", {"README.md": ""}), ("large", {"postBuild": MAKE_LARGE})):
            forge.create_repo("org", name, files)
        with Stack(folder / "data", reap_interval_seconds=1) as stack:
            share_packages(stack.data_dir)
            for turn in range(turns + 1):
                for name in seconds:
                    took = _launch(stack, git_spec(f"{forge.url}/org/{name}"))
                    if turn:  # the first builds the image
                        seconds[name].append(took)

    more = statistics.median(seconds["large"]) - statistics.median(seconds["small"])
    what = f"{LARGE_BYTES // 2**30} GiB in {LARGE_FILES:,} files"
    return [
        Row("Servers on one's own machine, from request to ready", ""),
        Row("of a small environment", _spread(seconds["small"]), numbers={"p50": statistics.median(seconds["small"])}),
        Row(f"of one with {what}", _spread(seconds["large"]), numbers={"p50": statistics.median(seconds["large"])}),
        Row("the large one takes more", f"{more:.1f} s", goal="<= 3 s", numbers={"seconds": more}),
    ]


def _launch(stack: Stack, spec: str) -> float:
    started_at = time.monotonic()
    launch = ApiLaunch.begin(stack, spec)
    outcome = launch.stream.outcome(_SECONDS)
    seconds = time.monotonic() - started_at
    if outcome["phase"] != "ready":
        raise RuntimeError(f"no server: {outcome}; {launch.stream.text[-3000:]}")
    return seconds


@contextmanager
def _folder() -> Iterator[Path]:
    base = os.environ.get("BINDERY_LOAD_DIR")
    with tempfile.TemporaryDirectory(prefix="bindery-load-", dir=base, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _spread(seconds: list[float]) -> str:
    return f"p50 {statistics.median(seconds):.2f} s, {min(seconds):.2f} to {max(seconds):.2f}"
