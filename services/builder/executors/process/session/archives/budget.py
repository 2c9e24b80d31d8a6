"""How much a dataset may still take on this machine: bytes, files and time."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import IO

from services.common.models.errors import BinderyError

CHUNK_BYTES = 64 * 1024
FREE_UNPACKED_BYTES = 64 * 2**20
"""What is unpacked up to here is no bomb, however small it was packed: a file of zeros is packed to a thousandth."""


@dataclass(kw_only=True)
class Budget:
    """What is left of the limits `max_bytes` and `max_files`. `ends_at` is a time of the monotonic clock.

    `unpacked_bytes` is what one packed file may become at most; None while nothing is unpacked.
    """

    max_bytes: int
    max_files: int
    max_ratio: float
    ends_at: float
    used_bytes: int = 0
    used_files: int = 0
    unpacked_bytes: float | None = None

    def take_file(self, number: int = 1) -> None:
        """Count files, folders or links. Raise `BinderyError("repository_too_large")` past the limit."""
        self.used_files += number
        if self.used_files > self.max_files:
            raise BinderyError(
                "repository_too_large",
                f"The dataset has more than the {self.max_files} files that are fetched here "
                "(BINDERY_FETCH_MAX_FILES).",
            )

    def take_bytes(self, number: int) -> None:
        """Count bytes. Raise `BinderyError("repository_too_large")` past the limit, and `TimeoutError`."""
        self.used_bytes += number
        if self.used_bytes > self.max_bytes:
            raise too_large(self.max_bytes)
        if self.unpacked_bytes is not None:
            self.unpacked_bytes -= number
            if self.unpacked_bytes < 0:
                raise BinderyError(
                    "repository_too_large",
                    f"A packed file of the dataset becomes more than {self.max_ratio:g} times as large when it is "
                    "unpacked, which is taken for an attack (BINDERY_FETCH_UNPACK_MAX_RATIO).",
                )
        if time.monotonic() > self.ends_at:
            raise TimeoutError

    def chunks(self, source: IO[bytes]) -> Iterator[bytes]:
        """Yield the content of `source`, counted. Raise as `take_bytes` does."""
        while chunk := source.read(CHUNK_BYTES):
            self.take_bytes(len(chunk))
            yield chunk

    def give_back(self, number: int) -> None:
        """Count bytes no more: what they were for is fetched again, or was removed."""
        self.used_bytes -= number

    def for_unpacking(self, packed_bytes: int) -> "Budget":
        """Return a budget of its own for what a file of `packed_bytes` is unpacked to, after which that is removed."""
        unpacked_bytes = max(FREE_UNPACKED_BYTES, self.max_ratio * packed_bytes)
        return replace(self.unused(), unpacked_bytes=unpacked_bytes)

    def unused(self) -> "Budget":
        """Return a budget with the same limits, of which nothing is used."""
        return replace(self, used_bytes=0, used_files=0)


def too_large(max_bytes: int) -> BinderyError:
    """Return the error for a dataset that is larger than a repository may be."""
    return BinderyError(
        "repository_too_large", f"The dataset is larger than the {max_bytes // 2**20} MiB allowed here."
    )
