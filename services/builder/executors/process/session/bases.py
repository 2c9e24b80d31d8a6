"""Environments that images share: Jupyter for one Python, installed once and never changed.

`<data>/bases/<key>-<Unix seconds>/`: the environment in `env`, the beginning of each environment over it in `template`,
and `base.json`, written last. A build that uses a base
holds its `lock` until no image of it names the base any more, or names it for good.
"""

import asyncio
import fcntl
import hashlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import IO

from pydantic import BaseModel, ConfigDict, ValidationError

from services.builder.executors.process.session.layout import remove_tree, size_bytes, write_atomically


class BaseManifest(BaseModel):
    """`base.json`: the version of the base's Python, and the size of its blocks."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    v: int = 1
    python: str
    size_bytes: int


class Base:
    """The folder of one base, whether or not it is finished."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name
        self.env = path / "env"
        self.template = path / "template"
        self._manifest_path = path / "base.json"
        self._lock_path = path / "lock"
        self._lock: IO[str] | None = None

    def manifest(self) -> BaseManifest | None:
        """Return the manifest; None if the base is half made or has been removed."""
        try:
            return BaseManifest.model_validate_json(self._manifest_path.read_bytes())
        except (OSError, ValidationError):
            return None

    def finish(self, python: str) -> None:
        """Write the manifest."""
        manifest = BaseManifest(python=python, size_bytes=size_bytes(self.path))
        write_atomically(self._manifest_path, manifest.model_dump_json())

    @property
    def made_at(self) -> float:
        """When the base was finished, in Unix seconds."""
        return float(self.name.rpartition("-")[2])

    def hold(self) -> bool:
        """Keep the base from being removed while this object lives. Return whether it is there."""
        with suppress(FileNotFoundError):
            self._lock = self._lock_path.open("a")
            fcntl.flock(self._lock, fcntl.LOCK_SH)
        return self.manifest() is not None  # else it was removed while we waited

    def set_aside(self) -> list[Path]:
        """Rename the base, so that nothing finds it any more, unless a build holds it; return its new path."""
        with suppress(BlockingIOError, FileNotFoundError), self._lock_path.open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return [self.path.rename(self.path.with_name(f".removed-{self.name}-{time.time_ns()}"))]
        return []


def finished_bases(bases: Path) -> list[tuple[Base, BaseManifest]]:
    """Return the bases that can be used, and their manifests."""
    found = [Base(path) for path in bases.glob("*-*") if not path.name.startswith(".")]
    return [(base, manifest) for base in found if (manifest := base.manifest())]


def key_of(**parts: object) -> str:
    """Return the key of bases that are made of equal parts."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:24]


async def find_or_make(
    bases: Path, key: str, make: Callable[[Base], Awaitable[None]], *, max_age_seconds: float
) -> Base:
    """Return a base that is younger than `max_age_seconds`, which `make` makes and finishes if there is none.

    Builds that need the same base wait for the first of them to make it.
    """
    if base := _find(bases, key, max_age_seconds):
        return base

    async with _locked(bases / f".{key}.lock"):
        if base := _find(bases, key, max_age_seconds):
            return base
        draft = Base(bases / f".draft-{key}")
        await asyncio.to_thread(remove_tree, draft.path)  # of a build that was killed
        draft.path.mkdir(parents=True)
        try:
            await make(draft)
            base = Base(draft.path.rename(bases / f"{key}-{int(time.time())}"))  # noqa: TID251 - of a file on this host
            base.hold()
            return base
        finally:
            await asyncio.to_thread(remove_tree, draft.path)


def _find(bases: Path, key: str, max_age_seconds: float) -> Base | None:
    """Return the newest base of a key, and hold it, unless it is too old."""
    ours = [base for base, _ in finished_bases(bases) if base.name.startswith(f"{key}-")]
    newest = max(ours, key=lambda base: base.made_at, default=None)
    if newest is None or time.time() - newest.made_at >= max_age_seconds:  # noqa: TID251 - of a file on this host
        return None
    return newest if newest.hold() else None


@asynccontextmanager
async def _locked(path: Path) -> AsyncIterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as lock:
        await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
        yield
