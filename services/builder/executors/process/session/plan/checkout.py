"""The files of a checkout that count, and the guard against paths that lead out of it."""

import os
from dataclasses import dataclass
from pathlib import Path

from services.builder.executors.process.session.errors import build_failed
from services.builder.executors.process.session.plan.decoding import decode

_MAX_FILE_BYTES = 2**20


@dataclass(frozen=True)
class Checkout:
    """A checkout at `repo`, whose files in `folder` count: `binder/`, `.binder/`, or else the top."""

    repo: Path
    folder: Path

    @classmethod
    def at(cls, repo: Path) -> "Checkout":
        """Return the checkout at `repo`. Raise `StepError` if it has both folders, because only one can count."""
        top = repo.resolve()
        folders = [top / name for name in ("binder", ".binder") if (top / name).is_dir()]
        if len(folders) > 1:
            raise build_failed(
                "The repository has both binder/ and .binder/: only one of them can count, remove the other"
            )
        return cls(top, folders[0] if folders else top)

    @property
    def has_binder_folder(self) -> bool:
        """Whether only files in a binder folder count."""
        return self.folder != self.repo

    def name(self, path: Path) -> str:
        """Return a path as an author knows it: relative to the top if it is below."""
        return str(path.relative_to(self.repo)) if path.is_relative_to(self.repo) else str(path)

    def has(self, name: str) -> bool:
        """Return whether a file counts, without looking where a link leads."""
        return (self.folder / name).is_file()

    def find(self, name: str, *, at_top: bool = False) -> Path | None:
        """Return a file that counts; None if there is none. `at_top`: one that counts at the top of a repository only.

        Raise `StepError` if it is a link that leads out of the repository: otherwise files of this machine could be
        quoted in the log, or made executable.
        """
        if at_top and self.has_binder_folder:
            return None

        path = self.folder / name
        if not path.is_file():
            return None
        if not self.contains(path):
            raise build_failed(
                f"{self.name(path)} is a link that leads out of the repository: put the file itself there"
            )
        return path

    def require(self, name: str) -> Path:
        """Return a file that counts. Raise `StepError` as `find` does, and if there is none."""
        path = self.find(name)
        if path is None:
            raise build_failed(f"{self.name(self.folder / name)} is not there")
        return path

    def contains(self, path: Path) -> bool:
        """Return whether a path, with all links followed, lies in the repository."""
        return Path(os.path.realpath(path)).is_relative_to(self.repo)

    def text(self, path: Path) -> str:
        """Return the text of a file. Raise `StepError` if it is larger than a MiB."""
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise build_failed(f"{self.name(path)} is larger than a MiB")
        return decode(path.read_bytes())
