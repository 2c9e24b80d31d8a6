"""The git that is installed here: its version, and what we call ourselves where git servers ask who is there."""

import functools
import re
import subprocess

MINIMUM_GIT = (2, 37)
"""The first git whose `http.curloptResolve` pins the address that was checked."""

PATCHED = {(2, 37): 5, (2, 38): 3, (2, 39): 1}
"""The releases of each line that mend CVE-2022-23521: writing past memory for a repository's .gitattributes, which a
checkout reads. Later advisories for who clones (CVE-2024-32002, CVE-2025-48384) are about submodules and local clones
by git itself, which it does neither of here, and distributions mend those under older numbers.
"""

_ASKED_SECONDS = 10.0


@functools.cache
def installed_git() -> str:
    """What git says of its version, asked once in a process: `git version 2.39.5`.

    Raises `RuntimeError`, saying what to do, where git is missing or does not run.
    """
    try:
        asked = ["git", "version"]
        done = subprocess.run(asked, capture_output=True, check=True, timeout=_ASKED_SECONDS)
    except FileNotFoundError as error:
        raise RuntimeError("git is not installed: install git 2.37 or later.") from error
    except (OSError, subprocess.SubprocessError) as error:
        raise RuntimeError(f"git does not run ({error}): install git 2.37 or later.") from error
    return done.stdout.decode("utf-8", "replace").strip()


def git_version() -> tuple[int, int]:
    """The version of the git that we run. Raises `RuntimeError`, saying what to do, if it is missing or too old."""
    said = installed_git()
    found = re.search(r"([0-9]+)\.([0-9]+)", said)
    if found is None or (version := (int(found[1]), int(found[2]))) < MINIMUM_GIT:
        raise RuntimeError(f"{said!r} is too old: install git 2.37 or later.")
    return version


def git_warning() -> str | None:
    """A sentence for a git that a repository's files may harm; None for any other. Raises as `installed_git` does."""
    found = re.search(r"([0-9]+)\.([0-9]+)(?:\.([0-9]+))?", installed_git())
    if found is None:
        return None
    line = int(found[1]), int(found[2])
    wanted = PATCHED.get(line, 0)
    if int(found[3] or 0) >= wanted:
        return None
    return (
        f"git {found[0]} has memory errors that a repository's .gitattributes can use (CVE-2022-23521): update it to "
        f"{line[0]}.{line[1]}.{wanted} or later, unless your distribution has mended it under the old number."
    )


def user_agent() -> str:
    """What we call ourselves where git would ask: `git/2.39.5 (Bindery)`.

    Hosts tell git from browsers by its first four characters, and answer 404 to others: many always, GitHub by public
    reports where the URL has no `.git`.
    """
    found = re.search(r"[0-9]+(\.[0-9]+)+", installed_git())
    return f"git/{found[0] if found else '.'.join(map(str, MINIMUM_GIT))} (Bindery)"
