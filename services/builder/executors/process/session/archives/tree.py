"""A new folder, in which files get names that strangers chose: nothing is ever made outside of it.

Nobody else writes there, links are made when everything else is there, and no file is opened that exists: so no name
can lead through a link. Rights are our own: a file may be a program, and nothing more.
"""

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from services.builder.executors.process.session.archives.budget import Budget
from services.builder.executors.process.session.archives.listing import shown
from services.common.models.errors import BinderyError

MAX_DEPTH = 100
"""How many folders deep a name may lead."""
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
_COLLISIONS = frozenset({errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY})
_BAD_NAMES = frozenset({errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL})


class NewTree:
    """What is made below `root`, an empty folder, and counted; `source` says in sentences whose names these are."""

    def __init__(self, root: Path, source: str, budget: Budget) -> None:
        self.root = root
        self._source = source
        self._budget = budget
        self._folders: set[tuple[str, ...]] = {()}
        self._files: set[tuple[str, ...]] = set()
        self._links: list[tuple[Path, str]] = []

    def add_folder(self, name: str) -> None:
        """Make a folder, unless it is there. Raise `BinderyError` as `write_file` does."""
        self._budget.take_file()  # also for one that is there: a list of them may have no end
        self._make_folders(self._parts(name), name)

    def write_file(self, name: str, chunks: Iterable[bytes], *, is_program: bool = False) -> None:
        """Make a file of the chunks. One that had the same name before is gone.

        Raise `BinderyError`: `build_failed` for a name that leads out of the tree, can't be a name, or is in the way of
        another one, `repository_too_large`, and `fetch_failed` if it can't be written. What `chunks` raises is raised.
        """
        self._budget.take_file()
        path = self._new_path(name)
        with self._failing(name):
            descriptor = os.open(path, _NEW, 0o777 if is_program else 0o666)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            for chunk in chunks:
                with self._failing(name):
                    file.write(chunk)

    def move_in(self, file: Path, name: str) -> bool:
        """Move a file of the same file system here; return whether one had that name before. Raise as `write_file`."""
        is_replaced = self._parts(name) in self._files
        self.write_file(name, ())  # which is refused if the name is
        with self._failing(name):
            file.replace(self.root.joinpath(*self._parts(name)))
        return is_replaced

    def add_link(self, name: str, target: str) -> None:
        """Make a link by `make_links`. Raise as `write_file` does."""
        self._budget.take_file()
        path = self.root.joinpath(*self._parts(name))
        if not target or not _is_path(target):
            raise self._refusal(name, "is a link to what can't be a name")
        self._links.append((path, target))

    def make_links(self, top: Path) -> list[str]:
        """Make the links that lead to something in `top`, which is the root or in it. Return the others' names.

        Raise as `write_file` does.
        """
        for path, target in self._links:
            name = str(path.relative_to(self.root))
            self._make_folders(path.relative_to(self.root).parts[:-1], name)
            with self._failing(name):
                if any(parent.is_symlink() for parent in path.parents[:MAX_DEPTH] if parent != self.root):
                    raise FileExistsError(errno.EEXIST, "a link is in the way")
                path.symlink_to(target)

        left_out: list[Path] = []
        made = [path for path, _ in self._links]
        while leading_out := {path for path in made if not _leads_into(path, top)}:  # others may lead through these
            for path in leading_out:
                path.unlink()
            left_out += [path for path in made if path in leading_out]
            made = [path for path in made if path not in leading_out]
        return [str(path.relative_to(self.root)) for path in left_out]

    def _make_folders(self, parts: tuple[str, ...], name: str) -> None:
        """Make the folders that are not there yet, each of which counts. Raise as `write_file` does."""
        for depth in range(1, len(parts) + 1):
            if parts[:depth] in self._folders:
                continue
            self._budget.take_file()
            folder = self.root.joinpath(*parts[:depth])
            with self._failing(name):
                try:
                    folder.mkdir()
                except FileExistsError:  # for the file system, another name may be the same
                    if folder.is_symlink() or not folder.is_dir():
                        raise
            self._folders.add(parts[:depth])

    def _new_path(self, name: str) -> Path:
        """Return the path of a file that is not there, in a folder that is."""
        parts = self._parts(name)
        self._make_folders(parts[:-1], name)
        path = self.root.joinpath(*parts)
        if parts in self._files:
            with self._failing(name):
                path.unlink()
        self._files.add(parts)
        return path

    def _parts(self, name: str) -> tuple[str, ...]:
        """Return the parts of a name. Raise `BinderyError("build_failed")` if it leads elsewhere, or is no name."""
        parts = tuple(part for part in name.split("/") if part not in {"", "."})
        if name.startswith("/") or ".." in parts:
            raise self._refusal(name, "leads out of its folder")
        if not parts or len(parts) > MAX_DEPTH or not _is_path(name):
            raise self._refusal(name, "can't be the name of a file")
        return parts

    @contextmanager
    def _failing(self, name: str) -> Iterator[None]:
        """Raise `BinderyError` for what the system says of a name."""
        try:
            yield
        except OSError as error:
            if error.errno in _COLLISIONS:
                raise self._refusal(name, "stands for two files, or for a file and a folder") from error
            if error.errno in _BAD_NAMES:
                raise self._refusal(name, "can't be the name of a file") from error
            raise BinderyError("fetch_failed", f"The dataset could not be written: {error.strerror}.") from error

    def _refusal(self, name: str, why: str) -> BinderyError:
        return BinderyError("build_failed", f"A name in {self._source} {why}: {shown(name)!r}.")


def only_folder(root: Path) -> Path | None:
    """Return the folder that is the only entry of `root`; None if there is another entry, or none."""
    entries = list(os.scandir(root))
    if len(entries) == 1 and entries[0].is_dir(follow_symlinks=False):
        return Path(entries[0].path)
    return None


def _is_path(text: str) -> bool:
    """Return whether a text can be given to the system as a path."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _leads_into(path: Path, folder: Path) -> bool:
    """Return whether a link leads to something in `folder`. The system follows 40 links at most, so that this ends."""
    try:
        return path.exists() and Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))
    except OSError:  # a path that is too long by its links
        return False
