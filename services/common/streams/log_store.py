"""Stores of finished logs: in Redis, in files, or by size in either. Entries keep the positions of their stream.

A log outlives its build's record, so it says itself whether everybody may read it; a log that does not say so is
private. It is lines of JSON, one line an entry. The first line has a sixth part, `public`, if everybody may read it.
"""

import asyncio
import contextlib
import gzip
import itertools
import json
import os
import re
import secrets
import zlib
from pathlib import Path
from typing import Protocol

from redis.asyncio import Redis

from services.common.redis.keys import Keys, Topic
from services.common.redis.wrong_type import execute_each
from services.common.service.clock import clock
from services.common.service.logging import get_logger
from services.common.service.settings import ServiceSettings
from services.common.streams.entries import Entry
from services.common.streams.positions import STREAM_START, position_key

log = get_logger(__name__)

_PUBLIC = "public"
_CHUNK_BYTES = 16 * 1024
"""How much of a packed log is read at a time if only its first line is needed."""

_NUMBER = re.compile(rb"\d{1,15}")

_READ_COUNT = 500
"""Entries in one read from a stream."""

_LAST_COUNT = 16
"""Entries in one read from the end of a stream, of which only a part may be needed."""


class LogStore(Protocol):
    """Keeps the logs of finished builds for days."""

    async def put(self, build_id: str, entries: list[Entry], *, is_public: bool) -> None:
        """Store a whole log, in place of what is stored for the build."""

    async def is_public(self, build_id: str) -> bool:
        """Return whether a log is stored that everybody may read. False for a log from before logs said so."""

    async def read(self, build_id: str, after: str = STREAM_START) -> list[Entry] | None:
        """Return the entries beyond a position; None if no log is stored."""

    async def highest_attempt(self, image_key: str) -> int:
        """Return the number of an image's last attempt that has a log here; 0 if none has."""


def _pack(entries: list[Entry], *, is_public: bool) -> bytes:
    rows = [[e.id, e.number, e.lines, e.bytes_before, e.payload.decode(errors="replace")] for e in entries]
    if is_public and rows:
        rows[0].append(_PUBLIC)
    return "\n".join(json.dumps(row, separators=(",", ":")) for row in rows).encode()


def _is_marked_public(first_line: bytes) -> bool:
    return bool(first_line) and json.loads(first_line)[5:] == [_PUBLIC]


def _unpack(packed: bytes, after: str) -> list[Entry]:
    after_key = position_key(after)
    rows = (json.loads(line) for line in packed.splitlines() if line)
    entries = [
        Entry(id=row[0], number=row[1], lines=row[2], bytes_before=row[3], payload=row[4].encode()) for row in rows
    ]
    return [entry for entry in entries if entry.key > after_key]


class RedisLogs:
    """Compressed logs in Redis. The oldest are removed when all together pass `log_total_max_bytes`."""

    def __init__(self, redis: Redis, keys: Keys, settings: ServiceSettings) -> None:
        self._redis = redis
        self._keys = keys
        self._ttl_ms = int(settings.log_ttl_seconds * 1000)
        self._total_max_bytes = settings.log_total_max_bytes

    async def put(self, build_id: str, entries: list[Entry], *, is_public: bool) -> None:
        """Store a whole log, in place of what is stored for the build."""
        packed = await asyncio.to_thread(lambda: zlib.compress(_pack(entries, is_public=is_public)))
        async with self._redis.pipeline() as pipe:
            pipe.set(self._keys.log(build_id), packed, px=self._ttl_ms)
            pipe.zadd(self._keys("logs"), {build_id: clock.now()})
            pipe.hset(self._keys("logs:sizes"), build_id, str(len(packed)))
            await pipe.execute()
        await self._remove_old()

    async def _remove_old(self) -> None:
        """Remove logs that are past their time, then the oldest until the others are within the limit."""
        expired = await self._redis.zrangebyscore(self._keys("logs"), "-inf", clock.now() - self._ttl_ms / 1000)
        by_age = await self._redis.zrange(self._keys("logs"), 0, -1)
        stored_sizes = await self._redis.hgetall(self._keys("logs:sizes"))
        sizes = {name: int(size) if _NUMBER.fullmatch(size) else 0 for name, size in stored_sizes.items()}
        total = sum(sizes.values())

        for build_id in [*expired, *by_age]:
            if build_id not in expired and total <= self._total_max_bytes:
                return
            total -= sizes.pop(build_id, 0)
            async with self._redis.pipeline() as pipe:
                pipe.delete(self._keys.log(build_id.decode(errors="replace")))
                pipe.zrem(self._keys("logs"), build_id)
                pipe.hdel(self._keys("logs:sizes"), build_id)
                await pipe.execute()

    async def read(self, build_id: str, after: str = STREAM_START) -> list[Entry] | None:
        """Return the entries beyond a position; None if no log is stored."""
        packed = await self._redis.get(self._keys.log(build_id))
        if packed is None:
            return None
        return await asyncio.to_thread(lambda: _unpack(zlib.decompress(packed), after))

    async def is_public(self, build_id: str) -> bool:
        """Return whether a log is stored that everybody may read."""
        decompressor = zlib.decompressobj()
        line = b""
        for start in itertools.count(0, _CHUNK_BYTES):
            packed = await self._redis.getrange(self._keys.log(build_id), start, start + _CHUNK_BYTES - 1)
            line += decompressor.decompress(packed)
            if b"\n" in line or len(packed) < _CHUNK_BYTES:
                break
        return _is_marked_public(line.partition(b"\n")[0])

    async def highest_attempt(self, image_key: str) -> int:
        """Return the number of an image's last attempt that has a log here; 0 if none has."""
        names = [name.rpartition(b"-") for name in await self._redis.zrange(self._keys("logs"), 0, -1)]
        numbers = [number for key, _, number in names if key == image_key.encode() and _NUMBER.fullmatch(number)]
        return max(map(int, numbers), default=0)


class FileLogs:
    """Logs as gzip files in a folder that all processes share."""

    def __init__(self, folder: Path, settings: ServiceSettings) -> None:
        self._folder = folder
        self._ttl_seconds = settings.log_ttl_seconds

    def _path(self, build_id: str) -> Path:
        return self._folder / build_id[:2] / f"{build_id}.jsonl.gz"

    async def put(self, build_id: str, entries: list[Entry], *, is_public: bool) -> None:
        """Store a whole log, in place of what is stored for the build."""
        await asyncio.to_thread(self._write, build_id, _pack(entries, is_public=is_public))

    def _write(self, build_id: str, packed: bytes) -> None:
        path = self._path(build_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}-{secrets.token_hex(4)}.partial")
        partial.write_bytes(gzip.compress(packed))
        partial.replace(path)

        for old in self._folder.glob("*/*.jsonl.gz"):
            with contextlib.suppress(FileNotFoundError):  # another process removes old logs too
                if old.stat().st_mtime < clock.now() - self._ttl_seconds:
                    old.unlink()

    async def read(self, build_id: str, after: str = STREAM_START) -> list[Entry] | None:
        """Return the entries beyond a position; None if no log is stored."""
        return await asyncio.to_thread(self._read, build_id, after)

    async def is_public(self, build_id: str) -> bool:
        """Return whether a log is stored that everybody may read."""
        return _is_marked_public(await asyncio.to_thread(self._first_line, build_id))

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
        """Return the number of an image's last attempt that has a log here; 0 if none has."""
        paths = await asyncio.to_thread(lambda: list(self._folder.glob(f"*/{image_key}-*.jsonl.gz")))
        names = (path.name.removesuffix(".jsonl.gz").rpartition("-") for path in paths)
        return max((int(number) for _, _, number in names), default=0)


class SizedLogs:
    """Two stores: one for small logs, the other for large ones."""

    def __init__(self, small: LogStore, large: LogStore, *, threshold_bytes: int) -> None:
        self._small = small
        self._large = large
        self._threshold_bytes = threshold_bytes

    async def put(self, build_id: str, entries: list[Entry], *, is_public: bool) -> None:
        """Store a whole log, in place of what is stored for the build."""
        size = sum(len(entry.payload) for entry in entries)
        store = self._small if size <= self._threshold_bytes else self._large
        await store.put(build_id, entries, is_public=is_public)

    async def is_public(self, build_id: str) -> bool:
        """Return whether a log is stored that everybody may read."""
        return await self._small.is_public(build_id) or await self._large.is_public(build_id)

    async def read(self, build_id: str, after: str = STREAM_START) -> list[Entry] | None:
        """Return the entries beyond a position; None if no log is stored."""
        entries = await self._small.read(build_id, after)
        if entries is None:
            return await self._large.read(build_id, after)
        return entries

    async def highest_attempt(self, image_key: str) -> int:
        """Return the number of an image's last attempt that has a log here; 0 if none has."""
        return max(await self._small.highest_attempt(image_key), await self._large.highest_attempt(image_key))


def log_store(redis: Redis, keys: Keys, settings: ServiceSettings) -> LogStore:
    """Return the store that the settings name: Redis alone, or Redis for small logs and `log_dir` for large ones."""
    small = RedisLogs(redis, keys, settings)
    if settings.log_dir is None:
        return small
    return SizedLogs(small, FileLogs(settings.log_dir, settings), threshold_bytes=settings.log_small_max_bytes)


async def stream_entries(redis: Redis, keys: Keys, topic: Topic, after: str = STREAM_START) -> list[Entry]:
    """Return everything that a live stream has beyond a position, without what nobody can read.

    A key that holds no stream has nothing.
    """
    entries: list[Entry] = []
    while True:
        async with redis.pipeline(transaction=False) as pipe:
            pipe.xrange(keys.events(topic), min=f"({after}", count=_READ_COUNT)
            [raw] = await execute_each(pipe)
        if raw is None:
            log.warning("events_unreadable", topic=topic.name)
            return entries

        entries += [entry for item in raw if (entry := _readable(topic, item))]
        if len(raw) < _READ_COUNT:
            return entries
        after = raw[-1][0].decode()


async def last_entries(redis: Redis, keys: Keys, topic: Topic, *, max_bytes: int) -> list[Entry]:
    """Return the last entries of a live stream, in order: as many as it takes to have `max_bytes` of payload, or all.

    What nobody can read is left out. A key that holds no stream has nothing.
    """
    entries: list[Entry] = []
    size = 0
    before = "+"
    while size < max_bytes:
        async with redis.pipeline(transaction=False) as pipe:
            pipe.xrevrange(keys.events(topic), max=before, count=_LAST_COUNT)
            [raw] = await execute_each(pipe)
        for item in raw or ():
            if size < max_bytes and (entry := _readable(topic, item)):
                entries.append(entry)
                size += len(entry.payload)
        if raw is None or len(raw) < _LAST_COUNT:
            break
        before = f"({raw[-1][0].decode()}"
    return entries[::-1]


def _readable(topic: Topic, item: tuple[bytes, dict[bytes, bytes]]) -> Entry | None:
    """Return an entry as XRANGE answers it; None for one that nobody can read."""
    try:
        return Entry.stored(item)
    except (KeyError, ValueError):
        log.warning("events_unreadable", topic=topic.name, entry=item[0].decode())
        return None
