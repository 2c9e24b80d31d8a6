"""Where finished logs lie: every entry with its position, read through the same call as a live stream.

A log outlives its build's record, so it says itself whether everybody may read it: one that does not is nobody's. It
is lines of JSON, one an entry; the first has a sixth part, `public`, where the repository was that.
"""

import asyncio
import contextlib
import gzip
import itertools
import json
import os
import secrets
import time
import zlib
from pathlib import Path
from typing import Protocol

from redis.asyncio import Redis

from services.common.redis.keys import Keys, Topic
from services.common.service.settings import ServiceSettings
from services.common.streams.entries import STREAM_START, Entry, position_key

_PUBLIC = "public"
_CHUNK_BYTES = 16 * 1024
"""As much of a packed log is read at once where only its beginning is looked for."""


class LogStore(Protocol):
    """Keeps the logs of finished builds for days."""

    async def put(self, build_id: str, entries: list[Entry], *, is_public: bool) -> None:
        """Store a whole log. Storing the same build again replaces it by the same."""

    async def is_public(self, build_id: str) -> bool:
        """Whether a log is stored that everybody may read. False for one that was stored before logs said so."""

    async def read(self, build_id: str, after: str = STREAM_START) -> list[Entry] | None:
        """The entries beyond a position; None where no log is stored."""

    async def highest_attempt(self, image_key: str) -> int:
        """The highest attempt of an image that has a log here; 0 where none has."""


def _pack(entries: list[Entry], *, is_public: bool) -> bytes:
    rows = [[e.id, e.number, e.lines, e.bytes_before, e.payload.decode(errors="replace")] for e in entries]
    if is_public and rows:
        rows[0].append(_PUBLIC)
    return "\n".join(json.dumps(row, separators=(",", ":")) for row in rows).encode()


def _says_public(first_line: bytes) -> bool:
    return bool(first_line) and json.loads(first_line)[5:] == [_PUBLIC]


def _unpack(packed: bytes, after: str) -> list[Entry]:
    where = position_key(after)
    rows = (json.loads(line) for line in packed.splitlines() if line)
    found = [Entry(row[0], row[1], row[2], row[3], row[4].encode()) for row in rows]
    return [entry for entry in found if entry.key > where]


class RedisLogs:
    """Logs compressed in Redis, the oldest going first when all together pass a ceiling."""

    def __init__(self, redis: Redis, keys: Keys, settings: ServiceSettings) -> None:
        self._redis, self._keys = redis, keys
        self._ttl_ms = int(settings.log_ttl_seconds * 1000)
        self._ceiling = settings.log_total_max_bytes

    async def put(self, build_id: str, entries: list[Entry], *, is_public: bool) -> None:
        packed = await asyncio.to_thread(lambda: zlib.compress(_pack(entries, is_public=is_public)))
        async with self._redis.pipeline() as pipe:
            pipe.set(self._keys.log(build_id), packed, px=self._ttl_ms)
            pipe.zadd(self._keys("logs"), {build_id: time.time()})
            pipe.hset(self._keys("logs:sizes"), build_id, str(len(packed)))
            await pipe.execute()
        await self._keep_below_ceiling()

    async def _keep_below_ceiling(self) -> None:
        old = await self._redis.zrangebyscore(self._keys("logs"), "-inf", time.time() - self._ttl_ms / 1000)
        sizes = {k: int(v) for k, v in (await self._redis.hgetall(self._keys("logs:sizes"))).items()}
        total = sum(sizes.values())
        for build_id in [*old, *(await self._redis.zrange(self._keys("logs"), 0, -1))]:
            if build_id not in old and total <= self._ceiling:
                return
            total -= sizes.pop(build_id, 0)
            async with self._redis.pipeline() as pipe:
                pipe.delete(self._keys.log(build_id.decode()))
                pipe.zrem(self._keys("logs"), build_id)
                pipe.hdel(self._keys("logs:sizes"), build_id)
                await pipe.execute()

    async def read(self, build_id: str, after: str = STREAM_START) -> list[Entry] | None:
        packed = await self._redis.get(self._keys.log(build_id))
        return None if packed is None else await asyncio.to_thread(lambda: _unpack(zlib.decompress(packed), after))

    async def is_public(self, build_id: str) -> bool:
        unpacking, line = zlib.decompressobj(), b""
        for start in itertools.count(0, _CHUNK_BYTES):
            packed = await self._redis.getrange(self._keys.log(build_id), start, start + _CHUNK_BYTES - 1)
            line += unpacking.decompress(packed)
            if b"\n" in line or len(packed) < _CHUNK_BYTES:
                break
        return _says_public(line.partition(b"\n")[0])

    async def highest_attempt(self, image_key: str) -> int:
        known = [name.decode().rpartition("-") for name in await self._redis.zrange(self._keys("logs"), 0, -1)]
        return max((int(number) for key, _, number in known if key == image_key), default=0)


class FileLogs:
    """Logs as gzip files in a folder that every reader sees."""

    def __init__(self, folder: Path, settings: ServiceSettings) -> None:
        self._folder = folder
        self._ttl_seconds = settings.log_ttl_seconds

    def _path(self, build_id: str) -> Path:
        return self._folder / build_id[:2] / f"{build_id}.jsonl.gz"

    async def put(self, build_id: str, entries: list[Entry], *, is_public: bool) -> None:
        await asyncio.to_thread(self._write, build_id, _pack(entries, is_public=is_public))

    def _write(self, build_id: str, packed: bytes) -> None:
        path = self._path(build_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}-{secrets.token_hex(4)}.partial")
        partial.write_bytes(gzip.compress(packed))
        partial.replace(path)
        for old in self._folder.glob("*/*.jsonl.gz"):
            with contextlib.suppress(FileNotFoundError):  # another process removes the old ones too
                if old.stat().st_mtime < time.time() - self._ttl_seconds:
                    old.unlink()

    async def read(self, build_id: str, after: str = STREAM_START) -> list[Entry] | None:
        return await asyncio.to_thread(self._read, build_id, after)

    async def is_public(self, build_id: str) -> bool:
        return _says_public(await asyncio.to_thread(self._first_line, build_id))

    def _first_line(self, build_id: str) -> bytes:
        try:
            with gzip.open(self._path(build_id)) as log:
                return log.readline().rstrip(b"\n")
        except FileNotFoundError:
            return b""

    def _read(self, build_id: str, after: str) -> list[Entry] | None:
        try:
            return _unpack(gzip.decompress(self._path(build_id).read_bytes()), after)
        except FileNotFoundError:
            return None

    async def highest_attempt(self, image_key: str) -> int:
        paths = await asyncio.to_thread(lambda: list(self._folder.glob(f"*/{image_key}-*.jsonl.gz")))
        names = (path.name.removesuffix(".jsonl.gz").rpartition("-") for path in paths)
        return max((int(number) for _, _, number in names), default=0)


class SizedLogs:
    """Small logs in one store, large ones in another."""

    def __init__(self, small: LogStore, large: LogStore, *, threshold_bytes: int) -> None:
        self._small, self._large, self._threshold = small, large, threshold_bytes

    async def put(self, build_id: str, entries: list[Entry], *, is_public: bool) -> None:
        size = sum(len(entry.payload) for entry in entries)
        await (self._small if size <= self._threshold else self._large).put(build_id, entries, is_public=is_public)

    async def is_public(self, build_id: str) -> bool:
        return await self._small.is_public(build_id) or await self._large.is_public(build_id)

    async def read(self, build_id: str, after: str = STREAM_START) -> list[Entry] | None:
        if (found := await self._small.read(build_id, after)) is not None:
            return found
        return await self._large.read(build_id, after)

    async def highest_attempt(self, image_key: str) -> int:
        return max(await self._small.highest_attempt(image_key), await self._large.highest_attempt(image_key))


def log_store(redis: Redis, keys: Keys, settings: ServiceSettings) -> LogStore:
    """The store that the settings ask for: Redis alone, or Redis for small logs and `log_dir` for large ones."""
    small = RedisLogs(redis, keys, settings)
    if settings.log_dir is None:
        return small
    return SizedLogs(small, FileLogs(settings.log_dir, settings), threshold_bytes=settings.log_small_max_bytes)


async def stream_entries(redis: Redis, keys: Keys, topic: Topic, after: str = STREAM_START) -> list[Entry]:
    """Everything that a live stream has beyond a position."""
    found: list[Entry] = []
    while True:
        raw = await redis.xrange(keys.events(topic), min=f"({after}", count=500)
        found += [Entry.stored(item) for item in raw]
        if len(raw) < 500:
            return found
        after = found[-1].id
