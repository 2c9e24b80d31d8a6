"""What must hold of a commit before it is released, each as a sentence that says what to do."""

import datetime
import subprocess
from itertools import pairwise
from pathlib import Path

from tools.release import changelog, version
from tools.release.version import ReleaseError


def problems(checkout: Path, today: datetime.date, tag: str | None = None) -> list[str]:
    """Return why this commit can't be released; an empty list if it can.

    With `tag`, that tag must be on the commit and name its version; without, the version's tag must not be elsewhere.
    """
    released = version.read(checkout)
    try:
        version.parse(released)
    except ReleaseError as error:
        return [f"{version.FILE}: {error}"]

    return [*_changelog(checkout, released, today), *_tree(checkout), *_tag(checkout, released, tag)]


def _changelog(checkout: Path, released: str, today: datetime.date) -> list[str]:
    sections = changelog.sections(checkout)
    newest = sections[0]
    if newest.version != released:
        return [
            f"{changelog.FILE} begins with {newest.version}, and {version.FILE} says {released}: correct the one that "
            "is wrong. `python3 -m tools.release begin VERSION` changes both."
        ]

    found = []
    if newest.released == changelog.UNRELEASED:
        found.append(
            f"{changelog.FILE} says that {released} is unreleased: `python3 -m tools.release prepare` puts the date "
            "there."
        )
    elif newest.date is None:
        found.append(f"{changelog.FILE}: {newest.released!r} is not a date: write it as 2026-01-31.")
    elif newest.date > today:
        found.append(f"{changelog.FILE} dates {released} {newest.date}, which is yet to come: correct the date.")
    if not newest.text:
        found.append(f"{changelog.FILE} does not say what changed in {released}: write it there.")
    for later, earlier in pairwise(sections):
        if version.parse(later.version) <= version.parse(earlier.version):
            found.append(f"{changelog.FILE} has {later.version} above {earlier.version}: the newest comes first.")
    return found


def _tree(checkout: Path) -> list[str]:
    changed = _git(checkout, "status", "--porcelain").splitlines()
    if not changed:
        return []
    names = ", ".join(line[3:] for line in changed[:3]) + (", …" if len(changed) > 3 else "")
    return [f"The working tree differs from the commit ({names}): commit or remove that."]


def _tag(checkout: Path, released: str, tag: str | None) -> list[str]:
    wanted = f"v{released}"
    if tag is not None and tag != wanted:
        return [f"The tag {tag} is on a commit whose version is {released}: its tag would be {wanted}."]

    head = _git(checkout, "rev-parse", "HEAD")
    tagged = _git(checkout, "rev-parse", "--verify", "--quiet", f"refs/tags/{wanted}^{{commit}}")
    if tag is not None and not tagged:
        return [f"There is no tag {wanted} in this clone: `git fetch --tags` gets it."]
    if tagged and tagged != head:
        return [
            f"The tag {wanted} is on another commit, {tagged[:12]}. A released version never changes: begin the next "
            "one with `python3 -m tools.release begin VERSION`."
        ]
    return []


def _git(checkout: Path, *arguments: str) -> str:
    """Return what git prints; nothing if it fails."""
    command = ["git", "-C", str(checkout), *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout.strip("\n")
