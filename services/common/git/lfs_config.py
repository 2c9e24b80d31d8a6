"""What an author says of Git LFS in `.lfsconfig`: which server has the contents, and which of them a clone fetches.

Source: "LFSCONFIG" in git-lfs's docs/man/git-lfs-config.adoc. Whatever else the file says, such as programs, does not
count.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from services.common.git.pointers import LFS_FILES
from services.common.git.process import GitRunner
from services.common.git.submodules import file_of_commit

NOT_INCLUDED = "The repository's .lfsconfig does not include them (lfs.fetchinclude)."
EXCLUDED = "The repository's .lfsconfig excludes them (lfs.fetchexclude)."
_FILE = ".lfsconfig"
_KEYS = r"^(lfs\.(url|fetchinclude|fetchexclude)|remote\.origin\.lfsurl)$"


@dataclass(frozen=True, kw_only=True)
class LfsConfig:
    """The URL of the server, not checked and empty if there is none, and patterns as in `.gitignore`."""

    url: str = ""
    included: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()


async def lfs_config(git: GitRunner, sha: str, folder: Path) -> LfsConfig:
    """Return the `.lfsconfig` of commit `sha`. Raise `BinderyError("build_failed")` for one that can't be read."""
    values = dict(await file_of_commit(git, sha, _FILE, _KEYS, folder))
    return LfsConfig(
        url=values.get("lfs.url") or values.get("remote.origin.lfsurl", ""),
        included=_patterns(values.get("lfs.fetchinclude", "")),
        excluded=_patterns(values.get("lfs.fetchexclude", "")),
    )


async def left_out(git: GitRunner, config: LfsConfig, paths: Sequence[str], folder: Path) -> dict[str, str]:
    """Return by path which files the author does not want to be fetched, and the sentence that says so."""
    reasons: dict[str, str] = {}
    if config.included:
        included = await _matching(git, config.included, folder)
        reasons |= dict.fromkeys((path for path in paths if path not in included), NOT_INCLUDED)
    if config.excluded:
        excluded = await _matching(git, config.excluded, folder)
        reasons |= dict.fromkeys((path for path in paths if path in excluded), EXCLUDED)
    return reasons


async def _matching(git: GitRunner, patterns: Sequence[str], folder: Path) -> set[str]:
    """Return the paths of the files in Git LFS that match a pattern, as git itself reads `.gitignore`."""
    file = git.home / "lfs-patterns"
    file.write_text("\n".join(patterns) + "\n", encoding="utf-8", errors="surrogateescape")
    options = ("-z", "--cached", "--ignored", f"--exclude-from={file}")
    listing = await git.run("ls-files", *options, "--", LFS_FILES, cwd=folder)
    return {os.fsdecode(name) for name in listing.output.split(b"\0") if name}


def _patterns(text: str) -> tuple[str, ...]:
    return tuple(pattern for part in text.split(",") if (pattern := part.strip()))
