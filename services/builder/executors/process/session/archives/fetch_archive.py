"""The fetch of a dataset: list its files, download them, unpack the only one, and put everything in its place."""

import asyncio
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from services.builder.executors.process.session.archives.api import ArchiveApi
from services.builder.executors.process.session.archives.budget import Budget
from services.builder.executors.process.session.archives.downloads import Downloads
from services.builder.executors.process.session.archives.listing import Listing, Packing, RemoteFile, Say, shown
from services.builder.executors.process.session.archives.listings import LISTINGS
from services.builder.executors.process.session.archives.tars import unpack_tar
from services.builder.executors.process.session.archives.tree import NewTree, only_folder
from services.builder.executors.process.session.archives.zips import is_zip, unpack_zip
from services.builder.executors.process.session.spec import BuildSpec
from services.common.git.words import counted, printable, size_text
from services.common.models.errors import BinderyError
from services.common.net.networks import NetworkPolicy
from services.common.net.outbound import CheckedClient
from services.common.net.proxy import OutboundProxy

SILENCE_SECONDS = 30.0
"""How long a server may take to connect, or send nothing, before a file is asked for again."""
_NAMES_SHOWN = 5


async def fetch_archive(
    spec: BuildSpec, target: Path, *, policy: NetworkPolicy, proxy: OutboundProxy | None, say: Say
) -> None:
    """Put the dataset that a spec names into `target`, which is created; lines for a reader go to `say`.

    After an error the caller deletes what lies beside `target`. Raise `BinderyError`: `address_not_allowed`,
    `ref_not_found`, `repository_too_large`, `build_failed` for what only the dataset's authors can correct, and
    `fetch_failed`. Raise `TimeoutError`.
    """
    settings = spec.settings
    budget = Budget(
        max_bytes=settings.max_repository_bytes,
        max_files=settings.max_repository_files,
        max_ratio=settings.max_unpacked_ratio,
        ends_at=time.monotonic() + settings.fetch_timeout_seconds,
    )
    client = CheckedClient(
        policy, proxy=proxy, total_seconds=settings.fetch_timeout_seconds, silence_seconds=SILENCE_SECONDS
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=target.parent) as work:
        folder = Path(work)
        async with asyncio.timeout(settings.fetch_timeout_seconds), client:
            listing = await LISTINGS[spec.content_provider](spec, ArchiveApi(client), say)
            if not listing.files:
                raise BinderyError("ref_not_found", f"There are no files in {listing.name}, so nothing can be built.")
            say(f"Fetching {_described(listing)}")
            downloads = Downloads(
                client=client, budget=budget, folder=folder, say=say, progress_seconds=settings.progress_seconds
            )
            contents = await downloads.fetch(listing.files)

        root = folder / "root"
        root.mkdir()
        placing = _Placing(listing=listing, root=root, budget=budget, say=say)
        top = await asyncio.to_thread(placing.place, contents)
        top.replace(target)


def _described(listing: Listing) -> str:
    sizes = [file.size_bytes for file in listing.files if file.size_bytes is not None]
    size = f" ({size_text(sum(sizes))})" if len(sizes) == len(listing.files) else ""
    return printable(f"{counted(len(listing.files), 'file')} of {listing.name}{size}")


@dataclass(frozen=True, kw_only=True)
class _Placing:
    """Puts what was downloaded under `root`."""

    listing: Listing
    root: Path
    budget: Budget
    say: Say

    def place(self, contents: list[Path]) -> Path:
        """Return the folder that is the dataset: the root, or the only folder in it. Raise as `fetch_archive` does."""
        if self.listing.packing is Packing.TAR:
            return self._unpacked_tar(contents[0])
        if self.listing.packing is Packing.ZIP and is_zip(contents[0]):
            return self._unpacked_zip(contents[0], self.listing.files[0])

        tree = NewTree(self.root, "the dataset", self.budget.unused())
        for file, content in zip(self.listing.files, contents, strict=True):
            if tree.move_in(content, file.path):
                self.say(f"Two files of the dataset are called {shown(file.path)}: the later one is kept")
        return self.root

    def _unpacked_zip(self, content: Path, file: RemoteFile) -> Path:
        self.say(f"Unpacking {shown(file.path)}")
        budget = self.budget.for_unpacking(content.stat().st_size)
        unpack_zip(content, NewTree(self.root, shown(file.path), budget), budget, name=shown(file.path))
        return only_folder(self.root) or self.root

    def _unpacked_tar(self, content: Path) -> Path:
        budget = self.budget.for_unpacking(content.stat().st_size)
        tree = NewTree(self.root, self.listing.name, budget)
        unpack_tar(content, tree, budget, name=self.listing.name)
        top = only_folder(self.root)
        if top is None:
            raise BinderyError("fetch_failed", f"What came for {self.listing.name} is not one folder.")

        if left_out := tree.make_links(top):
            more = f" and {len(left_out) - _NAMES_SHOWN} more" if len(left_out) > _NAMES_SHOWN else ""
            names = ", ".join(name.partition("/")[2] for name in left_out[:_NAMES_SHOWN])
            self.say(
                printable(
                    f"{counted(len(left_out), 'link')} that lead elsewhere or nowhere are left out: {names}{more}"
                )
            )
        return top
