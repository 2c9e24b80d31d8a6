"""Replicas of the resolver that are asked the same at once ask the forge once; none depends on Redis for it."""

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from deploy.local.redis import redis_url
from services.resolver.policy.live import LivePolicy
from services.resolver.shared_flights import UNDER_WAY
from tests.support.forge import Fault, Forge
from tests.support.in_process_resolver import replicas, running_resolver
from tests.support.polling import until
from tests.support.valkey import PASSWORD, Valkey, calls, running_valkey, until_repeated


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    """A server of the test's own: one changes the rights of its users."""
    with running_valkey(tmp_path) as valkey:
        yield valkey


def api_requests(forge: Forge) -> int:
    return len(forge.api_requests)


async def test_twenty_requests_at_two_replicas_are_one_upstream(forge: Forge, redis: Redis) -> None:
    sha = forge.create_repo("org", "repo", {"a": "1"})
    forge.api_fault = Fault.holding()
    async with replicas(forge, redis, {}, {}) as both:
        asks = [asyncio.create_task(both[number % 2].repo("gh", "org/repo/main")) for number in range(20)]
        await until(lambda: api_requests(forge) > 0, "a request")
        await until_repeated(lambda: calls(redis, "set"), times=3)  # the other replica looks for the answer
        forge.api_fault.release()
        repos = await asyncio.gather(*asks)
    assert {repo.ref for repo in repos} == {sha}
    assert api_requests(forge) == 1
    await until(lambda: no_flights(redis), "no flight is left")


async def no_flights(redis: Redis) -> bool:
    return not await redis.keys("*flight*")


async def test_an_error_is_shared_with_the_code_and_the_time_to_wait(forge: Forge, redis: Redis) -> None:
    forge.create_repo("org", "repo", {"a": "1"})
    forge.api_fault = Fault(status=429, headers={"retry-after": "77"}, hold=threading.Event())
    async with replicas(forge, redis, {}, {}) as both:
        asks = [asyncio.create_task(both[number % 2].problem("gh", "org/repo/main")) for number in range(8)]
        await until(lambda: api_requests(forge) > 0, "a request")
        forge.api_fault.release()
        problems = await asyncio.gather(*asks)
    assert {(problem.code, problem.retry_after_seconds) for problem in problems} == {("rate_limited", 77.0)}
    assert api_requests(forge) == 1


async def test_other_credentials_or_rules_ask_by_themselves(forge: Forge, redis: Redis) -> None:
    forge.create_repo("org", "repo", {"a": "1"})
    forge.api_fault = Fault.holding()
    others: list[dict[str, object]] = [{}, {"github_access_token": "a-token"}, {"banned_specs": {"gh": ["bad/"]}}]
    async with replicas(forge, redis, *others) as three:
        asks = [asyncio.create_task(replica.repo("gh", "org/repo/main")) for replica in three]
        await until(lambda: api_requests(forge) == 3, "a request of each")
        forge.api_fault.release()
        await asyncio.gather(*asks)


async def test_a_replica_that_died_while_it_asked_delays_others_by_no_more_than_the_bound(
    forge: Forge, redis: Redis
) -> None:
    sha = forge.create_repo("org", "repo", {"a": "1"})
    async with replicas(forge, redis, {"resolve_share_seconds": 1.0}) as (living,):
        forge.api_fault = Fault.holding()
        first = asyncio.create_task(living.repo("gh", "org/repo/main"))
        (key,) = await found(redis)
        forge.api_fault.release()
        await first

        await redis.set(key, UNDER_WAY, px=60_000)  # what a replica leaves that dies, and for longer than it does
        began = time.monotonic()
        assert (await living.repo("gh", "org/repo/main")).ref == sha
        assert 1.0 <= time.monotonic() - began < 30.0


async def found(redis: Redis) -> list[bytes]:
    """Wait for the key of a flight."""
    keys: list[bytes] = []

    async def is_there() -> bool:
        keys[:] = await redis.keys("*flight*")
        return bool(keys)

    await until(is_there, "a flight")
    return keys


async def test_an_answer_that_cannot_be_read_is_none(forge: Forge, redis: Redis) -> None:
    sha = forge.create_repo("org", "repo", {"a": "1"})
    async with replicas(forge, redis, {}) as (resolver,):
        forge.api_fault = Fault.holding()
        first = asyncio.create_task(resolver.repo("gh", "org/repo/main"))
        (key,) = await found(redis)
        forge.api_fault.release()
        await first
        for raw in (b"{", b"{}", b'{"v": 2, "answer": "of the next release"}'):
            await redis.set(key, raw, px=60_000)
            assert (await resolver.repo("gh", "org/repo/main")).ref == sha


@pytest.mark.parametrize("settings", [{"redis_url": "redis://127.0.0.1:1/0"}, {"resolve_share_seconds": 0}])
async def test_without_redis_or_if_it_is_switched_off_each_asks_by_itself(
    forge: Forge, redis: Redis, settings: dict[str, object]
) -> None:
    sha = forge.create_repo("org", "repo", {"a": "1"})
    url = {"redis_url": redis_url(Path(redis.connection_pool.connection_kwargs["path"]), "resolver", PASSWORD)}
    async with running_resolver(forge, **url | settings) as one, running_resolver(forge, **url | settings) as two:
        repos = await asyncio.gather(one.repo("gh", f"org/repo/{sha}"), two.repo("gh", f"org/repo/{sha}"))
    assert {repo.ref for repo in repos} == {sha}
    assert api_requests(forge) == 2


async def test_a_resolver_without_the_right_to_share_still_stores_what_cannot_change(
    forge: Forge, redis: Redis
) -> None:
    sha = forge.create_repo("org", "repo", {"a": "1"})
    rights = ("resetkeys", "%W~bindery:default:fact:repo:*", "%W~bindery:default:policy:resolver")
    await redis.execute_command("ACL", "SETUSER", "resolver", *rights)
    async with replicas(forge, redis, {}) as (resolver,):
        assert (await resolver.repo("gh", f"org/repo/{sha}")).ref == sha
    assert len(await redis.keys("*fact*")) == 1


async def never() -> None:
    await asyncio.Event().wait()


async def test_one_replica_alone_makes_four_round_trips_for_a_new_link(
    forge: Forge, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha = forge.create_repo("org", "repo", {"a": "1"})
    monkeypatch.setattr(LivePolicy, "run", lambda _policy: never())  # it reads the policy now and then
    async with replicas(forge, redis, {}) as (resolver,):
        await redis.config_resetstat()
        await resolver.repo("gh", f"org/repo/{sha}")
        stats = await redis.info("commandstats")
    # One for what is known and which rules are in force, one to ask whether another replica asks, one for what that has
    # found out in between, and one that stores and publishes.
    counts = {name: stats[f"cmdstat_{name}"]["calls"] for name in ("mget", "get", "set")}
    assert counts == {"mget": 1, "get": 1, "set": 4}
