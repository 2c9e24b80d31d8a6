"""Checks of this machine before anything is started."""

import re
import subprocess
import sys
from collections.abc import Mapping

from deploy.local.proxy import traefik_binary
from deploy.local.redis import redis_binary
from deploy.local.settings import Settings, StartupError
from deploy.local.variables import unknown_variables

PYTHONS = ((3, 11), (3, 13))
GIT = (2, 37)
"""The first git that accepts the address to connect to (`http.curloptResolve`)."""

GIT_PATCHED = {(2, 37): 5, (2, 38): 3, (2, 39): 1}
"""The releases that fix CVE-2022-23521; the services warn by the same list (services/common/git/versions.py)."""

UNTRUSTED = (
    "is not trusted: if a proxy of your network opens TLS connections, add its authority's certificate to those of the "
    "system, and name the file with all of them in SSL_CERT_FILE and REQUESTS_CA_BUNDLE"
)
"""What is wrong with a certificate, and what to do about it; install.md explains it, and venv.sh says the same."""


def check_machine() -> None:
    """Raise `StartupError` for the first thing that is missing."""
    check_python()
    check_git()
    redis_binary()
    traefik_binary()


def check_python() -> str:
    """Return the version of this Python. Raise `StartupError` if it isn't supported."""
    version = ".".join(str(number) for number in sys.version_info[:3])
    if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        raise StartupError(
            f"Bindery needs Python 3.11, 3.12 or 3.13, and this is {version}: run `make up PYTHON=python3.13`."
        )

    return version


def git_warning(version: str) -> str | None:
    """Return a warning of a git that a repository's files may attack; None for any other."""
    match = re.match(r"([0-9]+)\.([0-9]+)(?:\.([0-9]+))?", version)
    if match is None:
        return None

    major = int(match[1])
    minor = int(match[2])
    patched = GIT_PATCHED.get((major, minor), 0)
    if int(match[3] or 0) >= patched:
        return None

    return (
        f"git {match[0]} has memory errors that a repository's .gitattributes can use (CVE-2022-23521): update it to "
        f"{major}.{minor}.{patched} or later, unless your distribution has fixed it without changing the version."
    )


def proxy_warning(environ: Mapping[str, str]) -> str | None:
    """Return a warning if other programs use a proxy and Bindery's own requests do not; else None."""
    names = ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")
    name = next((name for name in names if environ.get(name)), None)
    if name is None or environ.get("BINDERY_OUTBOUND_PROXY"):
        return None

    return (
        f"{name} is set: packages are fetched through that proxy, but GitHub and repositories are not. If it is the "
        "only way out, name it in BINDERY_OUTBOUND_PROXY, too."
    )


def settings_warning(settings: Settings, environ: Mapping[str, str]) -> str | None:
    """Return a warning of variables that are named like a setting and are none; None if there are no such variables."""
    unknown = unknown_variables(settings, environ)
    if not unknown:
        return None

    names = [f"{name} (did you mean {closest}?)" if closest else name for name, closest in unknown.items()]
    return (
        f"nothing reads {', '.join(names)}: correct the name, or unset it. A variable of a plug-in reaches its "
        "component by BINDERY_PART_ENVIRONMENT."
    )


def warnings(settings: Settings, environ: Mapping[str, str]) -> list[str]:
    """Return the warnings, about things that work but should be changed. Raise `StartupError` as `check_git` does."""
    possible = (git_warning(check_git()), proxy_warning(environ), settings_warning(settings, environ))
    return [warning for warning in possible if warning]


def check_git() -> str:
    """Return the version of git. Raise `StartupError` if it is missing or too old."""
    oldest = ".".join(str(number) for number in GIT)
    try:
        output = subprocess.run(["git", "--version"], capture_output=True, text=True, check=True, timeout=10).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise StartupError(f"git is missing or does not run: install git {oldest} or later.") from error

    match = re.search(r"([0-9]+)\.([0-9]+)\S*", output)
    if match is None or (int(match[1]), int(match[2])) < GIT:
        version = output.strip().removeprefix("git version ")
        raise StartupError(f"This git is {version}: install git {oldest} or later.")

    return match[0]
