"""Requests upstream that replicas share: what a replica leaves behind in Redis keeps no other waiting."""

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from services.common.redis.keys import Keys
from services.resolver.providers.base import Resolved
from services.resolver.shared_flights import SharedFlights
from tests.support.in_process_launcher import REPO
from tests.support.polling import until
from tests.support.valkey import Valkey, calls, until_repeated

KEYS = Keys("test")


async def test_a_replica_that_was_not_told_that_it_asks_for_all_tells_them_the_answer(
    valkey: Valkey, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_answer = asyncio.Event()

    async def ask() -> Resolved:
        await may_answer.wait()
        return Resolved(REPO)

    async def ask_again() -> Resolved:
        raise AssertionError("another replica asks already")

    async with Redis.from_url(valkey.url) as client:
        set_key = client.set

        async def lose_reply(*args: Any, **options: Any) -> None:
            await set_key(*args, **options)
            raise RedisConnectionError("the reply is lost")

        monkeypatch.setattr(client, "set", lose_reply)
        first = SharedFlights(client, KEYS, wait_seconds=60)
        second = SharedFlights(redis, KEYS, wait_seconds=60)
        asking = asyncio.create_task(first.run("link", ask, lambda _pipe, _repo: None))
        await until(lambda: redis.exists(KEYS("flight:link")), "the first one asks")
        waiting = asyncio.create_task(second.run("link", ask_again, lambda _pipe, _repo: None))
        await until_repeated(lambda: calls(redis, "set"))
        may_answer.set()
        async with asyncio.timeout(60):
            assert await asking == await waiting == REPO
