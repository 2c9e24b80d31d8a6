"""A packed file as the libraries read it, which is bounded: they would read as much at once as it says of itself."""

import io
import os
import sys
from typing import IO

READ_MAX_BYTES = 2**20
"""More than any part that these libraries read whole, but for the list of a ZIP file's entries."""
ENTRY_BYTES = 256
"""What that list has for each entry, if names are about as long as names are."""


class PackedFileError(Exception):
    """A file says of itself what no file of ours may have."""


class PackedFile(io.RawIOBase):
    """Reads `file`. Raise `PackedFileError` for one read of more than `max_read_bytes`, or past `max_position`.

    Raise `ValueError` for a position before the beginning.
    """

    def __init__(self, file: IO[bytes], *, max_read_bytes: int, max_position: int = sys.maxsize) -> None:
        super().__init__()
        self._file = file
        self._max_read_bytes = max_read_bytes
        self._max_position = max_position

    def readable(self) -> bool:
        """See `io.IOBase`."""
        return True

    def seekable(self) -> bool:
        """See `io.IOBase`."""
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        """See `io.RawIOBase`."""
        wanted = self._max_read_bytes + 1 if size is None or size < 0 else size
        if size is not None and size > self._max_read_bytes:
            raise PackedFileError
        content = self._file.read(wanted)
        if len(content) > self._max_read_bytes or self._file.tell() > self._max_position:
            raise PackedFileError
        return content

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """See `io.IOBase`."""
        if whence == os.SEEK_SET and offset > self._max_position:
            raise PackedFileError
        if whence == os.SEEK_SET and offset < 0:
            raise ValueError("a position before the beginning")
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """See `io.IOBase`."""
        return self._file.tell()
