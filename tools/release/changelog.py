"""The changelog: its sections by version, and one of them as the text of a release page."""

import datetime
import re
from dataclasses import dataclass
from pathlib import Path

from tools.release.version import ReleaseError

FILE = Path("CHANGELOG.md")
UNRELEASED = "unreleased"

_HEADING = re.compile(r"^## (\S+), (.+)$", re.MULTILINE)
_FENCE = re.compile(r"\s*```")
_BEGINS = re.compile(r"\s*([-*] |\d+\. |#+ |>|\||```)")
"""How a line begins that does not continue the one before."""

_ENDS = re.compile(r"\s*(#+ |\||```)")
"""How a line begins that the next one does not continue."""

_LINK = re.compile(r"(\]\()(?!\w+:|#|/)([^)\s]+\))")
"""A link to another file of the repository."""


@dataclass(frozen=True)
class Section:
    """What changed in one version; `released` is a date, or `unreleased`, as the heading has it."""

    version: str
    released: str
    text: str

    @property
    def date(self) -> datetime.date | None:
        """The date of the release; None if the heading has no date."""
        try:
            return datetime.date.fromisoformat(self.released)
        except ValueError:
            return None


def sections(checkout: Path) -> list[Section]:
    """Return the sections, the newest first. Raise `ReleaseError` if there are none."""
    content = (checkout / FILE).read_text(encoding="utf-8")
    parts = _HEADING.split(content)[1:]
    found = [Section(*part) for part in zip(parts[::3], parts[1::3], map(str.strip, parts[2::3]), strict=True)]
    if not found:
        raise ReleaseError(f"{FILE} has no heading like `## 1.2.3, {UNRELEASED}`.")
    return found


def section(checkout: Path, version: str) -> Section:
    """Return the section of a version. Raise `ReleaseError`."""
    for candidate in sections(checkout):
        if candidate.version == version:
            return candidate
    raise ReleaseError(f"{FILE} has no section for {version}.")


def set_date(checkout: Path, version: str, date: datetime.date) -> None:
    """Put the date of the release into the heading of a version. Raise `ReleaseError` if it has one."""
    released = section(checkout, version).released
    if released != UNRELEASED:
        raise ReleaseError(f"{FILE} says that {version} was released: {released}. Begin the next version first.")

    path = checkout / FILE
    content = path.read_text(encoding="utf-8")
    path.write_text(content.replace(f"## {version}, {UNRELEASED}\n", f"## {version}, {date}\n", 1), encoding="utf-8")


def add_section(checkout: Path, version: str) -> None:
    """Begin the section of the next version, above all others."""
    newest = sections(checkout)[0]
    heading = f"## {newest.version}, {newest.released}\n"
    path = checkout / FILE
    content = path.read_text(encoding="utf-8")
    path.write_text(content.replace(heading, f"## {version}, {UNRELEASED}\n\n{heading}", 1), encoding="utf-8")


def notes(text: str, links_to: str = "") -> str:
    """Return a section as the text of a release page.

    Forges break lines there where the text does, so each paragraph and each item becomes one line. Links to files get
    `links_to` before them: the page is not beside those files.
    """
    unwrapped = "\n".join(_unwrapped(text))
    return _LINK.sub(lambda link: f"{link[1]}{links_to}{link[2]}", unwrapped) + "\n"


def _unwrapped(text: str) -> list[str]:
    lines: list[str] = []
    is_code = False
    for line in text.splitlines():
        if lines and not is_code and _continues(line, lines[-1]):
            lines[-1] += f" {line.strip()}"
        else:
            lines.append(line)
        if _FENCE.match(line):
            is_code = not is_code
    return lines


def _continues(line: str, before: str) -> bool:
    is_text = bool(line.strip() and before.strip())
    return is_text and not _BEGINS.match(line) and not _ENDS.match(before)
