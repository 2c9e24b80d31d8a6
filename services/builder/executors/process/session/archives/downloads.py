"""Downloading the files of a dataset, several at once, each compared with what its archive says of it."""

import asyncio
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from services.builder.executors.process.session.archives.attempts import PassingError, attempted, refusal
from services.builder.executors.process.session.archives.budget import Budget, too_large
from services.builder.executors.process.session.archives.listing import RemoteFile, Say, shown
from services.common.git.words import counted, size_text
from services.common.models.error_codes import ErrorCode
from services.common.models.errors import BinderyError
from services.common.net.outbound import CheckedClient

DOWNLOADS_AT_ONCE = 4


@dataclass(kw_only=True)
class Downloads:
    """Downloads to `folder`. `say` gets a line about how far they are each `progress_seconds`."""

    client: CheckedClient
    budget: Budget
    folder: Path
    say: Say
    progress_seconds: float
    _done: int = 0
    _said_at: float = field(default_factory=time.monotonic)

    async def fetch(self, files: Sequence[RemoteFile]) -> list[Path]:
        """Return where the files are now, in their order.

        Raise `BinderyError`: `repository_too_large`, `address_not_allowed`, `ref_not_found`, `build_failed` for an
        address that is none, and `fetch_failed`, also for what is not what the archive says. Raise `TimeoutError`.
        """
        self.budget.take_file(len(files))
        if sum(file.size_bytes or 0 for file in files) > self.budget.max_bytes:
            raise too_large(self.budget.max_bytes)

        slots = asyncio.Semaphore(DOWNLOADS_AT_ONCE)
        targets = [self.folder / str(number) for number in range(len(files))]

        async def fetch_one(file: RemoteFile, target: Path) -> None:
            async with slots:
                await self._fetch(file, target)
                self._done += 1
                self._say_how_far(len(files))

        try:
            async with asyncio.TaskGroup() as group:
                for file, target in zip(files, targets, strict=True):
                    group.create_task(fetch_one(file, target))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return targets

    async def _fetch(self, file: RemoteFile, target: Path) -> None:
        try:
            await attempted(lambda: self._download(file, target))
        except BinderyError as error:
            code: ErrorCode = "build_failed" if error.has_code("bad_spec") else error.code
            after = error.retry_after_seconds
            raise BinderyError(code, f"{shown(file.path)}: {error.detail}", retry_after_seconds=after) from error
        except OSError as error:
            if isinstance(error, TimeoutError):
                raise
            raise BinderyError("fetch_failed", f"The dataset could not be written: {error.strerror}.") from error

    async def _download(self, file: RemoteFile, target: Path) -> None:
        digest = hashlib.new(file.checksum.algorithm, usedforsecurity=False) if file.checksum else None
        received_bytes = 0
        try:
            async with self.client.download(file.url, own_headers={}) as reply:
                if reply.status != 200:
                    raise refusal(reply.status, reply.host, "it", retry_after=reply.headers.get("retry-after", ""))
                with target.open("wb") as content:
                    async for chunk in reply.chunks:
                        received_bytes += len(chunk)
                        if file.size_bytes is not None and received_bytes > file.size_bytes:
                            raise _is_another(file, reply.host, "larger than")
                        self.budget.take_bytes(len(chunk))
                        if digest:
                            digest.update(chunk)
                        content.write(chunk)

            if file.size_bytes is not None and received_bytes != file.size_bytes:
                raise _is_another(file, reply.host, "smaller than")
            if file.checksum and digest and digest.hexdigest() != file.checksum.digest:
                raise _is_another(file, reply.host, "not")
        except (PassingError, BinderyError):
            self.budget.give_back(received_bytes)
            raise

    def _say_how_far(self, total: int) -> None:
        now = time.monotonic()
        if self._done < total and now - self._said_at >= self.progress_seconds:
            self._said_at = now
            self.say(f"{self._done} of {counted(total, 'file')}, {size_text(self.budget.used_bytes)}")


def _is_another(file: RemoteFile, host: str, how: str) -> PassingError:
    """Return the error for a content that is `how` what is listed; another attempt may get the right one."""
    of = f"{file.checksum.algorithm} {file.checksum.digest}" if file.checksum else "its size"
    size = f"{file.size_bytes} bytes, " if file.size_bytes is not None else ""
    return PassingError(BinderyError("fetch_failed", f"what {host} sent is {how} what the archive lists ({size}{of})."))
