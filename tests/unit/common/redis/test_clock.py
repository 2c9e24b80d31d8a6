"""A process's clock is set by that of its Redis, at its start and from time to time."""

import time

import pytest
from redis.asyncio import Redis

from services.common.service.clock import OFFSET, clock
from tests.support.polling import until
from tests.support.valkey import Valkey, another_context


@pytest.mark.usefixtures("redis")
async def test_a_process_knows_the_time_of_redis_from_its_start_and_notices_a_change(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "_ahead_of_monotonic", None)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 3600)  # as if this host's clock were an hour behind
    async with another_context(valkey, clock_interval_seconds=0.05):
        assert clock.now() == pytest.approx(real(), abs=1)
        assert OFFSET._value.get() == pytest.approx(-3600, abs=1)
        monkeypatch.setattr(time, "time", real)
        await until(lambda: abs(OFFSET._value.get()) < 1)


async def test_no_right_is_needed_for_it_that_the_users_did_not_have(valkey: Valkey, redis: Redis) -> None:
    for user in ("gateway", "builder", "worker", "launcher"):
        async with another_context(valkey, redis_url=valkey.url_of(user)):
            assert await redis.acl_log() == []
