"""Look for the records of followed topics, and notify the followers of one that Redis has lost.

Nothing tells when Redis has lost a record: a failover or a restart breaks connections, but a command that empties Redis
does not. So Redis is asked again and again, for all topics at once.
"""

from collections.abc import Sequence

from redis.asyncio import Redis

from services.common.redis.keys import Keys
from services.common.streams.reader import Reader

CHECK_COUNT = 1000
"""Records that one command looks for."""


async def check_records(redis: Redis, keys: Keys, readers: Sequence[Reader]) -> None:
    """Notify each reader whether Redis has the record of its topic: one round trip for `CHECK_COUNT` that are there."""
    for start in range(0, len(readers), CHECK_COUNT):
        batch = readers[start : start + CHECK_COUNT]
        existing = await _exist(redis, [keys.record(reader.topic) for reader in batch])
        for reader, exists in zip(batch, existing, strict=True):
            reader.on_record_check(exists=exists)


async def _exist(redis: Redis, keys: Sequence[str]) -> list[bool]:
    """Return for each key whether it exists."""
    if await redis.exists(*keys) == len(keys):
        return [True] * len(keys)

    async with redis.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.exists(key)
        return [bool(count) for count in await pipe.execute()]
