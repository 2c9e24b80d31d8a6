"""The variables that repo2docker promises to what runs in an image: postBuild, start, server, terminals and kernels.

Source: https://repo2docker.readthedocs.io/en/latest/contributing/architecture.html and the Dockerfiles that
repo2docker 2026 makes.
"""

import json
import os
import pwd
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def image_variables(base: Mapping[str, str], *, env: Path, repo: Path) -> dict[str, str]:
    """Return `base`, to which the variables of an image are added. The home folder is the repository, as there."""
    user = _user_name()
    path = [repo / ".local" / "bin", env / "bin", base.get("PATH", os.defpath)]
    return {
        **_without_other_charsets(base),
        "PATH": os.pathsep.join(map(str, path)),
        "HOME": str(repo),
        "REPO_DIR": str(repo),
        "VIRTUAL_ENV": str(env),
        "NB_PYTHON_PREFIX": str(env),
        "KERNEL_PYTHON_PREFIX": str(env),
        "USER": user,
        "NB_USER": user,
        "NB_UID": str(os.getuid()),
        "SHELL": next((shell for shell in ("/bin/bash", "/usr/bin/bash") if os.access(shell, os.X_OK)), "/bin/sh"),
        "PYTHONUNBUFFERED": "1",
    }


def read_activation(image: Path) -> dict[str, Any]:
    """Return what activating the image's conda environment changes; empty if that is none of conda.

    The build recorded it (`session/conda/activation.py`). Raise `OSError` or `ValueError` if it can't be read.
    """
    try:
        activation: dict[str, Any] = json.loads((image / "activation.json").read_bytes())
    except FileNotFoundError:
        return {}
    return activation


def activated(env: Mapping[str, str], activation: Mapping[str, Any]) -> dict[str, str]:
    """Return `env` as it is in the activated environment."""
    kept = {name: value for name, value in env.items() if name not in activation.get("removed", ())}
    path = activation.get("path", ())
    others = [part for part in env.get("PATH", "").split(os.pathsep) if part and part not in path]
    variables: dict[str, str] = activation.get("variables", {})
    return kept | variables | {"PATH": os.pathsep.join([*path, *others])}


def _user_name() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _without_other_charsets(base: Mapping[str, str]) -> dict[str, str]:
    """Return `base` with a locale of UTF-8 in LANG, and no other charset beside it."""
    kept = {name: value for name, value in base.items() if not name.startswith("LC_") or _is_utf8(value)}
    if not _is_utf8(kept.get("LANG", "")):
        kept["LANG"] = "en_US.UTF-8" if sys.platform == "darwin" else "C.UTF-8"
    return kept


def _is_utf8(locale: str) -> bool:
    charset = locale.partition(".")[2].partition("@")[0]
    return charset.lower().replace("-", "") == "utf8"
