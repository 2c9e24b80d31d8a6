"""What must be true of this machine before anything is started."""

import re
import subprocess
import sys
from collections.abc import Mapping

from deploy.local.proxy import traefik_binary
from deploy.local.redis import redis_binary
from deploy.local.settings import StartupError

PYTHONS = ((3, 11), (3, 13))
GIT = (2, 37)
"""The first git that can be told which address to connect to (`http.curloptResolve`)."""


GIT_PATCHED = {(2, 37): 5, (2, 38): 3, (2, 39): 1}
"""The releases that mend CVE-2022-23521; the services warn by the same ones (services/common/git/versions.py)."""


def check_machine() -> None:
    """Raise `StartupError` with one line for the first thing that is missing."""
    check_python()
    check_git()
    redis_binary()
    traefik_binary()


def check_python() -> str:
    """The version of this Python. Raises `StartupError` for one that isn't supported."""
    version = ".".join(str(number) for number in sys.version_info[:3])
    if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        raise StartupError(
            f"Bindery needs Python 3.11, 3.12 or 3.13, and this is {version}: run `make up PYTHON=python3.13`."
        )
    return version


def git_warning(version: str) -> str | None:
    """A sentence for a git that a repository's files may harm; None for any other."""
    found = re.match(r"([0-9]+)\.([0-9]+)(?:\.([0-9]+))?", version)
    if not found:
        return None
    line = int(found[1]), int(found[2])
    wanted = GIT_PATCHED.get(line, 0)
    if int(found[3] or 0) >= wanted:
        return None
    return (
        f"git {found[0]} has memory errors that a repository's .gitattributes can use (CVE-2022-23521): update it to "
        f"{line[0]}.{line[1]}.{wanted} or later, unless your distribution has mended it under the old number."
    )


def proxy_warning(environ: Mapping[str, str]) -> str | None:
    """A sentence where other programs are told of a proxy, and Bindery's own questions are not; None elsewhere."""
    names = ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")
    named = next((name for name in names if environ.get(name)), None)
    if named is None or environ.get("BINDERY_OUTBOUND_PROXY"):
        return None
    return (
        f"{named} is set, by which packages are fetched, but neither GitHub nor repositories are asked: if that proxy "
        "is the only way out, name it in BINDERY_OUTBOUND_PROXY, too."
    )


def warnings(environ: Mapping[str, str]) -> list[str]:
    """What is in nobody's way and should still be changed. Raises `StartupError` as `check_git` does."""
    return [warning for warning in (git_warning(check_git()), proxy_warning(environ)) if warning]


def check_git() -> str:
    """The version of git. Raises `StartupError` when it is missing or too old."""
    wanted = ".".join(str(number) for number in GIT)
    try:
        said = subprocess.run(["git", "--version"], capture_output=True, text=True, check=True, timeout=10).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise StartupError(f"git is missing or does not run: install git {wanted} or later.") from error
    found = re.search(r"([0-9]+)\.([0-9]+)\S*", said)
    if not found or (int(found[1]), int(found[2])) < GIT:
        raise StartupError(f"This git is {said.strip().removeprefix('git version ')}: install git {wanted} or later.")
    return found[0]
