"""The last live policy on this resolver's disk, for a Redis that was emptied."""

import os
import tempfile
from pathlib import Path

from services.common.models.policy import PolicyDocument
from services.resolver.policy.document import Unreadable, parse, text_of

_FILE = "live-policy"


class CopyOnDisk:
    """A file in `folder`, replaced as a whole; without a folder there is none."""

    def __init__(self, folder: Path | None) -> None:
        self._path = folder / _FILE if folder else None
        self.problem = ""
        """Why the copy could not be read or written last; empty if it could."""

    def read(self) -> PolicyDocument | None:
        """Return the copy; None if there is none. Raise `Unreadable`."""
        if self._path is None:
            return None
        try:
            return parse(self._path.read_text())
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise Unreadable(f"{self._path}: {error}") from None
        except Unreadable as error:
            raise Unreadable(f"{self._path}: {error}") from None

    def write(self, document: PolicyDocument) -> None:
        """Replace the copy, unless there is a newer one: several resolvers may share the folder."""
        if self._path is None:
            return
        try:
            if not self._is_older_than(document):
                return
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=self._path.parent, delete=False) as file:
                file.write(text_of(document))
                file.flush()
                os.fsync(file.fileno())
            Path(file.name).replace(self._path)
            self.problem = ""
        except OSError as error:
            self.problem = f"The live policy can't be kept in {self._path.parent}: {error}"

    def _is_older_than(self, document: PolicyDocument) -> bool:
        try:
            earlier = self.read()
        except Unreadable:
            return True
        return earlier is None or earlier.version < document.version
