"""Downloads and links, in lines of the log; and the cache that the packages come from."""

import itertools
import os
from collections.abc import Iterable
from pathlib import Path

import rattler

from services.builder.executors.process.session.conda.job import CondaOutcome
from services.builder.executors.process.session.conda.talking import say
from services.builder.executors.process.session.layout import write_atomically

_LINKED_PER_LINE = 50


class Cache:
    """The unpacked packages, each under the address that it came from: no channel can replace another's package."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.packages = rattler.PackageCache.new_layered([folder], cache_origin=True)

    async def missing(self, records: Iterable[rattler.RepoDataRecord]) -> list[rattler.RepoDataRecord]:
        """Return the records whose packages are not here."""
        index = await self.packages.index()
        return [record for record in records if not index.contains_record(record)]

    def touch(self, records: Iterable[rattler.RepoDataRecord]) -> None:
        """Note that these packages were used just now."""
        for record in records:
            for lock in self._folder.glob(f"{record.name.normalized}-{record.version}-{record.build}*.lock"):
                os.utime(lock)


class Progress(rattler.InstallerReporter):
    """Says what happens, and ends this process when more is downloaded than `max_bytes`.

    The records tell a size, but the channel that tells it may lie.
    """

    def __init__(self, records: Iterable[rattler.RepoDataRecord], *, max_bytes: int, outcome: Path) -> None:
        self._sizes = {record.name.normalized: record.size or 0 for record in records}
        self._max_bytes = max_bytes
        self._outcome = outcome
        self._numbers = itertools.count()
        self._packages: dict[int, str] = {}
        self._received: dict[int, int] = {}
        self._linked = 0

    def on_populate_cache_start(self, operation: int, package_name: str) -> int:
        """Remember which package it is."""
        number = next(self._numbers)
        self._packages[number] = package_name
        return number

    def on_download_start(self, cache_entry: int) -> int:
        """Say which package is downloaded."""
        name = self._packages.get(cache_entry, "a package")
        say(f"Downloading {name} ({self._sizes.get(name, 0) / 1e6:.1f} MB)")
        return next(self._numbers)

    def on_download_progress(self, download_idx: int, progress: int, total: int | None) -> None:
        """Count what has been received; `progress` is all of this download."""
        self._received[download_idx] = progress
        if sum(self._received.values()) > self._max_bytes:
            outcome = CondaOutcome.failed(
                f"More than the {self._max_bytes / 1e6:.0f} MB allowed here were downloaded: a channel understates the "
                "sizes of its packages (BINDERY_CONDA_DOWNLOAD_MAX_BYTES)"
            )
            write_atomically(self._outcome, outcome.model_dump_json())
            os._exit(1)

    def on_link_complete(self, index: int) -> None:
        """Count the packages that are linked."""
        self._linked += 1
        if self._linked % _LINKED_PER_LINE == 0:
            say(f"Installed {self._linked} of {len(self._sizes)} packages")

    def on_post_link_start(self, package_name: str, script_path: str) -> int:
        """Remember whose script it is."""
        number = next(self._numbers)
        self._packages[number] = package_name
        return number

    def on_post_link_complete(self, index: int, success: bool) -> None:
        """Say that a script failed. conda goes on, too, and whether it matters shows later."""
        if not success:
            say(f"The post-link script of {self._packages.get(index, 'a package')} failed")
