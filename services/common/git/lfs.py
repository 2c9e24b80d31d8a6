"""Files of Git LFS in a checkout: their contents are put in the place of the pointers, up to a size.

The address of a server that a repository's `.lfsconfig` names is checked like that of a submodule.
"""

import asyncio
import contextlib
import shutil
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from services.common.git.lfs_config import LfsConfig, left_out, lfs_config
from services.common.git.lfs_server import BATCH_OBJECTS, Action, LfsError, LfsServer
from services.common.git.pointers import Pointer, PointerFile, is_plain_file, pointer_files
from services.common.git.process import GitRunner
from services.common.git.urls import WEB, git_url, submodule_url, web_url
from services.common.git.words import counted, printable, size_text
from services.common.models.errors import BinderyError
from services.common.net.credential import ScopedCredential
from services.common.net.networks import NetworkPolicy
from services.common.net.outbound import CheckedClient
from services.common.net.proxy import OutboundProxy

DOWNLOADS_AT_ONCE = 8
SILENCE_SECONDS = 30.0
"""How long a server may take to connect, or send nothing, before an object is asked for again."""
_NAMES_SHOWN = 5
_PATHS_AT_ONCE = 200
_TOO_SLOW = "They did not arrive in the time that fetching may take (BINDERY_FETCH_TIMEOUT_SECONDS)."
_HAS_EXTENSIONS = "Their pointers ask for a program of the author's (an extension of Git LFS), which is not run."


@dataclass(frozen=True, kw_only=True)
class Checkout:
    """A commit that is checked out at `folder`: a repository's, or that of the submodule at `path` in it.

    `url` is the repository's as it was written, `remote_url` where it was reached.
    """

    url: str
    remote_url: str
    sha: str
    folder: Path
    path: str = ""


async def fetch_lfs_files(
    checkouts: Sequence[Checkout],
    *,
    git: GitRunner,
    policy: NetworkPolicy,
    proxy: OutboundProxy | None,
    limit_bytes: int,
    timeout_seconds: float,
    credential: ScopedCredential | None = None,
) -> None:
    """Put the contents of Git LFS in the place of the checkouts' pointers, and say in lines what is missing, and why.

    Together they may have `limit_bytes`, which a setting says, and what `git` has to spare. Files are taken in the
    order of their paths while they fit. Nothing about Git LFS ends a fetch.
    """
    found = [(checkout, await pointer_files(git.unwatched, checkout.folder)) for checkout in checkouts]
    found = [(checkout, files) for checkout, files in found if files]
    if not found:
        return

    spare_bytes = git.spare_bytes
    left_bytes = min(limit_bytes, spare_bytes)
    too_large = f"They are over the limit of {size_text(limit_bytes)} (BINDERY_FETCH_LFS_MAX_BYTES)."
    if spare_bytes < limit_bytes:
        too_large = "With them, the repository would be over its limit (BINDERY_FETCH_MAX_BYTES)."
    client = CheckedClient(
        policy,
        proxy=proxy,
        total_seconds=timeout_seconds,
        silence_seconds=SILENCE_SECONDS,
        credential=credential,
    )
    ends_at = asyncio.get_running_loop().time() + timeout_seconds

    async with client:
        for checkout, files in found:
            contents = _Contents(checkout=checkout, git=git.unwatched, client=client)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(ends_at):
                    left_bytes -= await contents.fetch(files, left_bytes, too_large)
            await contents.finish()
            for line in contents.lines():
                if git.on_line:
                    git.on_line(line)


def endpoint_of(checkout: Checkout, config: LfsConfig) -> str:
    """Return the URL of the Git LFS server for a checkout: that of its `.lfsconfig`, or that of its repository.

    An ssh URL means the https one. Raise `BinderyError("bad_spec")` for a URL that is not one of http or https, or is
    refused for a submodule.
    """
    if config.url:
        url = submodule_url(checkout.url, config.url)
        return git_url(web_url(url) or url, WEB).rstrip("/")

    url = (web_url(checkout.remote_url) or checkout.remote_url).rstrip("/")
    return git_url(f"{url.removesuffix('.git')}.git/info/lfs", WEB)


@dataclass(kw_only=True)
class _Contents:
    """The contents of one checkout's files: `missing` says by path why some are not there, `fetched` has the others."""

    checkout: Checkout
    git: GitRunner
    client: CheckedClient
    missing: dict[str, str] = field(default_factory=dict)
    fetched: list[PointerFile] = field(default_factory=list)

    @property
    def _store(self) -> Path:
        """The folder of contents that are not complete yet, on the same file system as the files."""
        return self.checkout.folder / ".git" / "bindery-lfs"

    async def fetch(self, files: Sequence[PointerFile], left_bytes: int, too_large: str) -> int:
        """Fetch what fits into `left_bytes`, and return how many bytes that is; `too_large` is said of the rest."""
        self.missing = dict.fromkeys((file.path for file in files), _TOO_SLOW)  # until they are there
        try:
            config = await lfs_config(self.git, self.checkout.sha, self.checkout.folder)
            self.missing |= await left_out(self.git, config, list(self.missing), self.checkout.folder)
            chosen, chosen_bytes = self._choose(files, left_bytes, too_large)
            await self._fetch_all(chosen, config)
        except BinderyError as error:
            self._give_up(files, error.detail)
            return 0
        return chosen_bytes

    async def _fetch_all(self, files: Sequence[PointerFile], config: LfsConfig) -> None:
        """Fetch files, and record why some are not there. Raise `BinderyError` for an address that can't be used."""
        by_pointer: dict[Pointer, list[PointerFile]] = {}
        for file in files:
            by_pointer.setdefault(file.pointer, []).append(file)
        if not by_pointer:
            return
        server = LfsServer(self.client, endpoint_of(self.checkout, config))
        try:
            for batch in _batches(list(by_pointer)):
                await self._fetch_batch(server, batch, by_pointer)
        except LfsError as error:
            self._give_up(files, error.reason)

    def _choose(self, files: Sequence[PointerFile], left_bytes: int, too_large: str) -> tuple[list[PointerFile], int]:
        chosen = []
        chosen_bytes = 0
        for file in files:
            if self.missing[file.path] != _TOO_SLOW:
                continue
            if file.pointer.has_extensions:
                self.missing[file.path] = _HAS_EXTENSIONS
            elif chosen_bytes + file.pointer.size_bytes > left_bytes or not left_bytes:
                self.missing[file.path] = too_large
            else:
                chosen.append(file)
                chosen_bytes += file.pointer.size_bytes
        return chosen, chosen_bytes

    def _give_up(self, files: Sequence[PointerFile], reason: str) -> None:
        """Record why the files that are not there yet will not come."""
        for file in files:
            if self.missing.get(file.path) == _TOO_SLOW:
                self.missing[file.path] = reason

    async def _fetch_batch(
        self, server: LfsServer, batch: Sequence[Pointer], files: dict[Pointer, list[PointerFile]]
    ) -> None:
        places = await server.locate(batch)
        slots = asyncio.Semaphore(DOWNLOADS_AT_ONCE)

        async def fetch_one(pointer: Pointer) -> None:
            async with slots:
                try:
                    await self._fetch_one(server, places[pointer.oid], pointer, files[pointer])
                except LfsError as error:
                    self._give_up(files[pointer], error.reason)
                except OSError as error:
                    self._give_up(files[pointer], f"They could not be written: {error.strerror}.")

        async with asyncio.TaskGroup() as group:
            for pointer in batch:
                group.create_task(fetch_one(pointer))

    async def _fetch_one(
        self, server: LfsServer, place: Action | LfsError, pointer: Pointer, files: Sequence[PointerFile]
    ) -> None:
        if isinstance(place, LfsError):
            raise place
        self._store.mkdir(exist_ok=True)
        content = self._store / f"{pointer.oid}-{pointer.size_bytes}"  # one may be named with a wrong size, too
        await server.download(place, pointer, content)

        for number, file in enumerate(files, start=1):
            is_last = number == len(files)
            is_there = await asyncio.to_thread(_put, content, self.checkout.folder, file.path, moves=is_last)
            if is_there:
                self.fetched.append(file)
                del self.missing[file.path]

    async def finish(self) -> None:
        """Remove what is left of incomplete contents, and keep git from calling the files changed.

        For git, which knows the pointers, they would be: versions made of `git describe --dirty` would differ.
        """
        await asyncio.to_thread(shutil.rmtree, self._store, ignore_errors=True)
        paths = [file.path for file in self.fetched]
        for start in range(0, len(paths), _PATHS_AT_ONCE):
            some = paths[start : start + _PATHS_AT_ONCE]
            await self.git.run("update-index", "--assume-unchanged", "--", *some, cwd=self.checkout.folder)

    def lines(self) -> Iterator[str]:
        """Yield what a reader of the log should know."""
        where = f"Submodule {self.checkout.path}: " if self.checkout.path else ""
        if self.fetched:
            size = size_text(sum(file.pointer.size_bytes for file in self.fetched))
            yield printable(f"{where}The contents of {counted(len(self.fetched), 'file')} came from Git LFS ({size})")

        for reason in dict.fromkeys(self.missing.values()):
            paths = sorted(path for path, of in self.missing.items() if of == reason)
            more = f" and {len(paths) - _NAMES_SHOWN} more" if len(paths) > _NAMES_SHOWN else ""
            names = f"{', '.join(paths[:_NAMES_SHOWN])}{more}"
            are, their = ("is", "its") if len(paths) == 1 else ("are", "their")
            kept = f"{counted(len(paths), 'file')} {are} kept in Git LFS; {their} contents were not fetched"
            yield printable(f"{where}{kept}: {names}. {reason}")


def _batches(pointers: list[Pointer]) -> Iterator[list[Pointer]]:
    for start in range(0, len(pointers), BATCH_OBJECTS):
        yield pointers[start : start + BATCH_OBJECTS]


def _put(content: Path, folder: Path, path: str, *, moves: bool) -> bool:
    """Put `content`, or a copy of it, in the place of the pointer at `path`; return whether that could be done."""
    target = folder / path
    if not is_plain_file(folder, path):
        return False
    source = content
    if not moves:
        source = content.with_name(f"{content.name}.copy")
        shutil.copyfile(content, source)
    source.chmod(stat.S_IMODE(target.lstat().st_mode))
    source.replace(target)
    return True
