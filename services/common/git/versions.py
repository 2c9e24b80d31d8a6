"""The installed git: its version, its known flaws, and the user agent that we send to git servers."""

import functools
import re
import subprocess

MINIMUM_GIT = (2, 37)
"""The first git whose `http.curloptResolve` pins the address that was checked."""

PATCHED = {(2, 37): 5, (2, 38): 3, (2, 39): 1}
"""The release of each line that fixes CVE-2022-23521: out-of-bounds writes for a repository's .gitattributes, which a
checkout reads. Later advisories about cloning (CVE-2024-32002, CVE-2025-48384) concern submodules and local clones by
git itself, which we do not use, and distributions fix those without changing the version.
"""

_ASKED_SECONDS = 10.0


@functools.cache
def installed_git() -> str:
    """Return git's own version line, `git version 2.39.5`; it is cached for the life of the process.

    Raise `RuntimeError`, saying what to do, if git is missing or does not run.
    """
    try:
        command = ["git", "version"]
        result = subprocess.run(command, capture_output=True, check=True, timeout=_ASKED_SECONDS)
    except FileNotFoundError as error:
        raise RuntimeError("git is not installed: install git 2.37 or later.") from error
    except (OSError, subprocess.SubprocessError) as error:
        raise RuntimeError(f"git does not run ({error}): install git 2.37 or later.") from error
    return result.stdout.decode("utf-8", "replace").strip()


def git_version() -> tuple[int, int]:
    """Return the version of the installed git. Raise `RuntimeError`, with advice, if it is missing or too old."""
    line = installed_git()
    match = re.search(r"([0-9]+)\.([0-9]+)", line)
    version = (int(match[1]), int(match[2])) if match else (0, 0)
    if version < MINIMUM_GIT:
        raise RuntimeError(f"{line!r} is too old: install git 2.37 or later.")
    return version


def git_warning() -> str | None:
    """Return a warning if a repository's files can harm the installed git. Raise as `installed_git` does."""
    match = re.search(r"([0-9]+)\.([0-9]+)(?:\.([0-9]+))?", installed_git())
    if match is None:
        return None
    line = int(match[1]), int(match[2])
    patched = PATCHED.get(line, 0)
    if int(match[3] or 0) >= patched:
        return None
    return (
        f"git {match[0]} has memory errors that a repository's .gitattributes can use (CVE-2022-23521): update it to "
        f"{line[0]}.{line[1]}.{patched} or later, unless your distribution has fixed it without changing the version."
    )


def user_agent() -> str:
    """Return the user agent for requests in git's place: `git/2.39.5 (Bindery)`.

    Hosts recognise git by the first four characters and answer 404 to other clients: many hosts always do, and GitHub,
    by public reports, if the URL has no `.git`.
    """
    match = re.search(r"[0-9]+(\.[0-9]+)+", installed_git())
    return f"git/{match[0] if match else '.'.join(map(str, MINIMUM_GIT))} (Bindery)"
