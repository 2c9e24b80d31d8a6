"""The end of a live stream is read backwards, and no more of it than is asked for."""

import json

from redis.asyncio import Redis

from services.common.redis.keys import Keys, Kind, Topic
from services.common.streams.log_store import last_entries

KEYS = Keys("test")
TOPIC = Topic(Kind.BUILD, "a-1")


def payload(number: int) -> str:
    return json.dumps([{"phase": "building", "message": f"{number:03}\n"}])


async def fill(redis: Redis, count: int) -> None:
    for number in range(1, count + 1):
        fields = {"n": number, "l": number, "b": 0, "d": payload(number)}
        await redis.xadd(KEYS.events(TOPIC), fields, id=f"{number}-0")


async def test_the_last_entries_come_in_order_and_as_many_as_have_the_size(redis: Redis) -> None:
    await fill(redis, 100)
    for count in (1, 16, 17, 40):
        read = await last_entries(redis, KEYS, TOPIC, max_bytes=count * len(payload(0)))
        assert [entry.number for entry in read] == list(range(101 - count, 101))


async def test_a_stream_that_is_shorter_is_read_whole(redis: Redis) -> None:
    await fill(redis, 32)
    assert len(await last_entries(redis, KEYS, TOPIC, max_bytes=10**6)) == 32


async def test_an_entry_that_nobody_can_read_is_left_out(redis: Redis) -> None:
    await fill(redis, 3)
    await redis.xadd(KEYS.events(TOPIC), {"n": "nonsense"}, id="4-0")
    assert [entry.number for entry in await last_entries(redis, KEYS, TOPIC, max_bytes=1)] == [3]


async def test_what_is_no_stream_has_no_entries(redis: Redis) -> None:
    assert await last_entries(redis, KEYS, TOPIC, max_bytes=100) == []
    await redis.set(KEYS.events(TOPIC), "damaged")
    assert await last_entries(redis, KEYS, TOPIC, max_bytes=100) == []
