"""The live policy in a real Redis: changed by several at once, lost with Redis, damaged."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from redis.asyncio import Redis

from services.common.models.errors import BinderyError
from services.common.models.policy import NewRule, PolicyDocument, RuleKind
from services.common.redis.keys import Keys
from services.resolver.policy.document import EMPTY, text_of, with_rule, without_rule
from services.resolver.policy.rules import Rules
from services.resolver.policy.store import PolicyStore
from services.resolver.settings import ResolverSettings
from tests.support.settings import settings_for
from tests.support.valkey import Valkey

KEYS = Keys("bindery:default")
LIVE = KEYS("policy:live")
IN_FORCE = KEYS("policy:resolver")


@asynccontextmanager
async def opened(valkey: Valkey, folder: Path | None = None, **others: object) -> AsyncIterator[PolicyStore]:
    """Open the store of one resolver, with its rights in Redis."""
    settings = settings_for(ResolverSettings, {"policy_dir": folder, **others})
    async with Redis.from_url(valkey.url_of("resolver")) as client:
        store = PolicyStore(client, KEYS, settings, rules_id=lambda live: Rules(settings, {}, live).id)
        await store.open()
        yield store


async def ban(store: PolicyStore, pattern: str) -> PolicyDocument:
    return await store.change(partial(with_rule, new=NewRule(kind=RuleKind.BAN, pattern=pattern), rules_max=100))


def patterns(store: PolicyStore) -> set[str]:
    return {rule.pattern for rule in store.known().rules}


async def test_a_change_is_there_for_every_resolver_and_in_the_audit_log(redis: Redis, valkey: Valkey) -> None:
    async with opened(valkey) as one, opened(valkey) as two:
        assert two.document is None
        before = await redis.get(IN_FORCE)
        await ban(one, "spammer/")
        assert await redis.get(IN_FORCE) not in {before, None}
        await two.refresh()
        assert two.document == one.document
        assert [entry.rule.pattern for entry in await two.audit(10)] == ["spammer/"]


async def test_changes_at_the_same_time_are_all_made(redis: Redis, valkey: Valkey) -> None:
    async with opened(valkey) as one, opened(valkey) as two:
        await asyncio.gather(*(ban(store, f"{number}/") for number, store in enumerate([one, two] * 4)))
        await one.refresh()
        await two.refresh()
        assert patterns(one) == patterns(two) == {f"{number}/" for number in range(8)}
        assert one.known().version == 8
        assert sorted(entry.version for entry in await one.audit(100)) == list(range(1, 9))


async def test_the_audit_log_is_as_long_as_a_setting_says(redis: Redis, valkey: Valkey) -> None:
    async with opened(valkey, policy_audit_max=2) as store:
        for name in ("a/", "b/", "c/"):
            await ban(store, name)
        await redis.lset(KEYS("policy:audit"), 0, "damaged")
        assert [entry.rule.pattern for entry in await store.audit(10)] == ["b/"]


async def test_an_emptied_redis_gets_the_newest_policy_back(redis: Redis, valkey: Valkey, tmp_path: Path) -> None:
    async with opened(valkey, tmp_path / "new") as newer, opened(valkey, tmp_path / "old") as older:
        await ban(newer, "a/")
        await older.refresh()
        await ban(newer, "b/")

    await redis.flushall()
    async with opened(valkey, tmp_path / "old") as older:
        assert patterns(older) == {"a/"}  # it is all that there is at the moment
        async with opened(valkey, tmp_path / "new") as newer:
            assert patterns(newer) == {"a/", "b/"}
            await older.refresh()
        assert patterns(older) == {"a/", "b/"}
    async with opened(valkey) as another:
        assert patterns(another) == {"a/", "b/"}


async def test_a_rule_that_was_added_to_an_emptied_redis_is_kept_beside_the_newest_policy(
    redis: Redis, valkey: Valkey, tmp_path: Path
) -> None:
    async with opened(valkey, tmp_path) as store:
        await ban(store, "a/")
        removed = await ban(store, "b/")
        await store.change(partial(without_rule, rule_id=removed.rules[1].id, by="", reason=""))

    old = await redis.get(LIVE)
    await redis.flushall()
    async with opened(valkey) as another:
        await ban(another, "c/")
        async with opened(valkey, tmp_path) as store:
            assert patterns(store) == {"a/", "c/"}
            assert store.known().version == 4
            await another.refresh()
            assert patterns(another) == {"a/", "c/"}
            assert await redis.get(LIVE) != old


async def test_a_resolver_with_an_old_policy_brings_its_rules_not_back(redis: Redis, valkey: Valkey) -> None:
    async with opened(valkey) as older, opened(valkey) as newer:
        await ban(newer, "a/")
        in_force = await redis.get(IN_FORCE)
        assert older.document is None
        await older.refresh()
        assert await redis.get(IN_FORCE) == in_force
        assert patterns(older) == {"a/"}


async def test_without_redis_and_copy_the_settings_alone_count(redis: Redis, valkey: Valkey, tmp_path: Path) -> None:
    async with opened(valkey, tmp_path / "none") as store:
        assert store.known() == EMPTY
        assert await store.health_problem() is None
        assert not (tmp_path / "none").exists()


async def test_while_redis_is_away_what_is_held_counts(own_valkey: Valkey, tmp_path: Path) -> None:
    async with opened(own_valkey, tmp_path / "kept") as store:
        await ban(store, "a/")
        own_valkey.kill()
        assert not await store.try_to_refresh()
        assert patterns(store) == {"a/"}
        with pytest.raises(BinderyError) as raised:
            await ban(store, "b/")
        assert raised.value.code == "redis_unavailable"
    async with opened(own_valkey, tmp_path / "kept") as store:
        assert patterns(store) == {"a/"}


@pytest.mark.parametrize("damage", ["{", "7 {", "1 {", "9999 {}", b"\xff"])
async def test_a_damaged_policy_leaves_the_last_good_one_and_health_says_so(
    redis: Redis, valkey: Valkey, damage: str | bytes
) -> None:
    async with opened(valkey) as store, opened(valkey) as another:
        await ban(store, "a/")
        await another.refresh()
        await redis.set(LIVE, damage)
        await store.refresh()
        assert patterns(store) == {"a/"}
        problem = await store.health_problem()
        assert problem
        assert "can't be read" in problem.detail
        assert LIVE in problem.detail

        await redis.delete(LIVE)
        await store.refresh()
        assert await store.health_problem() is None
        assert (await redis.get(LIVE)).decode() == text_of(store.known())


async def test_a_newer_policy_that_can_not_be_read_is_not_overwritten(redis: Redis, valkey: Valkey) -> None:
    async with opened(valkey) as store:
        await ban(store, "a/")
        await redis.set(LIVE, '9 {"v":2,"of":"the next release"}')
        with pytest.raises(BinderyError) as raised:
            await ban(store, "b/")
        assert raised.value.code == "conflict"
        assert (await redis.get(LIVE)).startswith(b"9 ")


@pytest.mark.parametrize("damage", ["{", "7 {"])
async def test_a_resolver_that_never_had_a_good_one_launches_nothing(redis: Redis, valkey: Valkey, damage: str) -> None:
    await redis.set(LIVE, damage)
    async with opened(valkey) as store:
        with pytest.raises(BinderyError) as raised:
            store.known()
        assert raised.value.code == "resolver_unavailable"
        assert await redis.get(IN_FORCE) is None


async def test_a_damaged_copy_is_replaced_by_the_policy_in_redis(redis: Redis, valkey: Valkey, tmp_path: Path) -> None:
    async with opened(valkey, tmp_path) as store:
        await ban(store, "a/")
    (tmp_path / "live-policy").write_text("1 {")
    async with opened(valkey, tmp_path) as store:
        assert patterns(store) == {"a/"}
        assert await store.health_problem() is None
        assert (tmp_path / "live-policy").read_text() == text_of(store.known())


async def test_a_damaged_copy_alone_is_not_taken_for_no_bans(redis: Redis, valkey: Valkey, tmp_path: Path) -> None:
    (tmp_path / "live-policy").write_text("1 {")
    async with opened(valkey, tmp_path) as store:
        with pytest.raises(BinderyError, match="can't be read at the moment"):
            store.known()
        problem = await store.health_problem()
        assert problem
        assert str(tmp_path / "live-policy") in problem.detail


async def test_a_copy_that_can_not_be_written_is_told_by_health(redis: Redis, valkey: Valkey, tmp_path: Path) -> None:
    async with opened(valkey) as store:
        await ban(store, "a/")
    (tmp_path / "no-folder").write_text("")
    async with opened(valkey, tmp_path / "no-folder") as store:
        assert patterns(store) == {"a/"}
        problem = await store.health_problem()
        assert problem
        assert "can't be kept" in problem.detail
