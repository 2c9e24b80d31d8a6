"""What replicas of the resolver know of links: when it is asked anew, and what it is good for while a forge is down."""

import asyncio
import shutil
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.support.forge import Fault, Forge
from tests.support.in_process_resolver import replicas
from tests.support.polling import until

NOTICE = "This is the commit that the link meant a minute ago."


@pytest.mark.parametrize("ref", ["main", "nowhere"])
async def test_a_thousand_that_ask_at_once_are_one_request(forge: Forge, redis: Redis, ref: str) -> None:
    forge.create_repo("org", "repo", {"a": "1"})
    async with replicas(forge, redis, {}, {}) as both:
        asks = (both[number % 2].post("gh", f"org/repo/{ref}") for number in range(1000))
        replies = await asyncio.gather(*asks)
    assert {reply.status_code for reply in replies} == {200 if ref == "main" else 404}
    assert [reply.content for reply in replies] == [replies[0].content] * 1000
    assert len(forge.api_requests) == 1


async def test_what_cannot_change_is_asked_once(forge: Forge, redis: Redis) -> None:
    sha = forge.create_repo("org", "repo", {"a": "1"})
    async with replicas(forge, redis, {}, {}) as (one, two):
        repos = [await one.repo("gh", f"org/repo/{sha}"), await two.repo("gh", f"org/repo/{sha}")]
    assert repos[0] == repos[1]
    assert len(forge.api_requests) == 1


async def test_what_is_missing_is_remembered_by_all_for_a_while(forge: Forge, redis: Redis) -> None:
    forge.create_repo("org", "repo", {"a": "1"})
    async with replicas(forge, redis, {"not_found_cache_seconds": 2.0}, {}) as (one, two):
        problems = [await one.problem("gh", "org/repo/new"), await two.problem("gh", "org/repo/new")]
        assert problems[0] == problems[1]
        assert len(forge.api_requests) == 1
        sha = forge.commit("org", "repo", {"a": "2"}, branch="new")

        async def is_found() -> bool:
            return (await two.post("gh", "org/repo/new")).status_code == 200

        await until(is_found, "it is asked again")
        assert (await two.repo("gh", "org/repo/new")).ref == sha


async def test_a_branch_is_asked_again_with_what_another_replica_knows(forge: Forge, redis: Redis) -> None:
    first = forge.create_repo("org", "repo", {"a": "1"})
    async with replicas(forge, redis, {}, {}) as (one, two):
        assert (await one.repo("gh", "org/repo/main")).ref == first
        assert (await asked_anew(redis, two, "org/repo/main")).ref == first
        second = forge.commit("org", "repo", {"a": "2"})
        assert (await asked_anew(redis, two, "org/repo/main")).ref == second
        assert (await asked_anew(redis, one, "org/repo/main")).ref == second
    etags = [request.headers.get("if-none-match") for request in forge.api_requests]
    assert len(etags) == 4
    assert etags[0] is None
    assert etags[1] == etags[2] != etags[3]


async def asked_anew(redis: Redis, resolver: Any, spec: str) -> Any:
    """Resolve when nobody has just asked: what was just answered is answered to all."""
    for key in await redis.keys("*flight*"):
        await redis.delete(key)
    return await resolver.repo("gh", spec)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault(status=502), f"GitHub answered 502. {NOTICE}"),
        (Fault(status=429, headers={"Retry-After": "90"}), f"Try again in 2 minutes. {NOTICE}"),
    ],
)
async def test_while_a_forge_is_down_its_last_answer_is_used_with_a_notice(
    forge: Forge, redis: Redis, fault: Fault, says: str
) -> None:
    sha = forge.create_repo("org", "repo", {"a": "1"})
    async with replicas(forge, redis, {}, {}) as (one, two):
        await one.repo("gh", "org/repo/main")
        forge.api_fault = fault
        repo = await asked_anew(redis, two, "org/repo/main")
        unknown = await two.problem("gh", "org/repo/other")
    assert repo.ref == sha
    assert repo.notice is not None
    assert says in repo.notice
    assert unknown.code in {"provider_unavailable", "rate_limited"}


async def test_an_answer_that_is_too_old_stands_in_for_nothing(forge: Forge, redis: Redis) -> None:
    forge.create_repo("org", "repo", {"a": "1"})
    async with replicas(forge, redis, {"stale_answer_seconds": 0.0}) as (one,):
        await one.repo("gh", "org/repo/main")
        forge.api_fault = Fault(status=502)
        with pytest.raises(AssertionError, match="GitHub answered 502"):
            await asked_anew(redis, one, "org/repo/main")


async def test_a_repository_that_has_gone_is_gone(forge: Forge, redis: Redis) -> None:
    forge.create_repo("org", "repo", {"a": "1"})
    async with replicas(forge, redis, {}) as (one,):
        await one.repo("gh", "org/repo/main")
        shutil.rmtree(forge.folder("org", "repo"))
        for key in await redis.keys("*flight*"):
            await redis.delete(key)
        await one.problem("gh", "org/repo/main")
        forge.api_fault = Fault(status=502)
        assert (await one.problem("gh", "org/repo/main")).code == "ref_not_found"


async def test_while_redis_is_away_each_knows_what_it_has_found_out(forge: Forge, redis: Redis) -> None:
    sha = forge.create_repo("org", "repo", {"a": "1"})
    async with replicas(forge, redis, {"redis_url": "redis://127.0.0.1:1/0"}) as (one,):
        for _ in range(2):
            await one.repo("gh", f"org/repo/{sha}")
            await one.problem("gh", "org/repo/nowhere")
            await one.repo("gh", "org/repo/main")
    assert [request.path.rpartition("/")[2] for request in forge.api_requests] == [sha, "nowhere", "main", "main"]
    assert forge.api_requests[-1].headers.get("if-none-match")


async def test_what_was_pushed_since_the_last_answer_is_seen_at_once(forge: Forge, redis: Redis) -> None:
    forge.create_repo("org", "repo", {"a": "1"})
    async with replicas(forge, redis, {}, {}) as (one, two):
        for number in range(3):
            await one.repo("gh", "org/repo/main")
            sha = forge.commit("org", "repo", {"a": f"pushed {number}"})
            assert (await two.repo("gh", "org/repo/main")).ref == sha
