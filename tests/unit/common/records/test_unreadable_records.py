"""A record on which no process can work ends as an error, and keeps none from others; a rollback is no reason to."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from services.common.context import ProcessContext
from services.common.models import Launch
from services.common.records.owned_record import OwnedRecord
from services.common.records.stored_record import RecordUnreadable, StoredRecord, is_public
from services.common.redis.keys import Kind, Topic
from services.common.streams.log_store import stream_entries
from tests.support.metrics import sample
from tests.support.polling import until
from tests.support.sample_records import TOPIC, create_record, launch, living, message_event
from tests.support.valkey import Valkey, another_context, die, member_of, sweep_as_another, sweeper_of

QUICK = {"lease_seconds": 1.0, "lease_renew_seconds": 0.05, "sweep_interval_seconds": 0.05}
BODY = launch().model_dump_json(exclude_none=True)
UNREADABLE = {
    "cut off": BODY[:40],
    "not an object": "[]",
    "without fields": "{}",
    "a field of another type": json.dumps(json.loads(BODY) | {"spec": 3}),
    "deeper than a parser goes": "[" * 100_000,
    "not UTF-8": BODY.replace('"ref"', '"\udcff"').encode(errors="surrogateescape"),
    "a version that must be understood": json.dumps(json.loads(BODY) | {"v": 2}),
}


@pytest.fixture
async def context(valkey: Valkey, redis: object) -> AsyncIterator[ProcessContext]:
    """A process that looks for what nothing works on many times in a second."""
    async with another_context(valkey, **QUICK) as context:
        yield context


async def orphan(context: ProcessContext, **fields: str | bytes) -> None:
    """Leave a launch whose owner died, with these fields in its record."""
    dead = member_of(context)
    await dead.take_lease()
    await create_record(context, dead.process)
    if fields:
        await context.redis.hset(context.keys.record(TOPIC), mapping=fields)
    await die(context, dead)


async def ends(context: ProcessContext) -> StoredRecord:
    """Wait until the record has ended, and return it."""

    async def has_ended() -> bool:
        record = await context.records.read(TOPIC)
        return record is not None and record.get("final") == "1"

    await until(has_ended, "the record ends")
    record = await context.records.read(TOPIC)
    assert record
    return record


async def check_end(context: ProcessContext, record: StoredRecord) -> None:
    """Check that a record has ended as an error that its followers see, and is nowhere else any more."""
    assert (record.get("state"), record.get("owner")) == ("failed", "")
    assert 0 < await context.redis.pttl(context.keys.record(TOPIC)) <= context.records.ttl_ms
    assert 0 < await context.redis.pttl(context.keys.events(TOPIC)) <= context.records.ttl_ms
    assert not await context.redis.exists(context.keys.orphans("gateway"))

    last = (await stream_entries(context.redis, context.keys, TOPIC))[-1]
    assert last.is_terminal
    event = last.events[-1]
    assert (event["phase"], event["state"], event["error"]["code"]) == ("failed", "failed", "record_unreadable")


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE.keys())
async def test_a_record_that_cannot_be_read_ends_after_five_adoptions(
    context: ProcessContext, body: str | bytes
) -> None:
    adopted: list[StoredRecord] = []

    async def adopt(_record: OwnedRecord, stored: StoredRecord) -> None:
        adopted.append(stored)

    before = sample("bindery_records_unworkable_total", kind="l")
    await orphan(context, body=body)
    async with living(context, on_adopt=adopt) as member:
        record = await ends(context)
        await check_end(context, record)
        assert (record.get("adoptions"), adopted) == ("5", [])
        assert sample("bindery_records_unworkable_total", kind="l") - before == 1

        owned = context.keys.owned(member.process)

        async def owns_nothing() -> bool:
            return not await context.redis.exists(owned)

        await until(owns_nothing, "nobody owns it")
    if body != UNREADABLE["a version that must be understood"]:  # which can be shown
        with pytest.raises(RecordUnreadable, match="can't read what is recorded"):
            record.model(Launch)


async def test_a_state_of_the_next_release_is_shown_but_not_worked_on(context: ProcessContext) -> None:
    await orphan(context, state="checking")
    record = await context.records.read(TOPIC)
    assert record
    assert record.model(Launch).state == "unknown"
    async with living(context, on_adopt=never):
        await check_end(context, await ends(context))


async def test_what_the_next_release_has_added_is_ignored(context: ProcessContext) -> None:
    adopted: list[StoredRecord] = []

    async def adopt(record: OwnedRecord, stored: StoredRecord) -> None:
        adopted.append(stored)
        await record.write(message_event("mine"), body=stored.model(Launch), final=True)

    addition = {"v": 1, "checks": {"signed": True}, "options": {"path": "", "gpu": 2}}
    await orphan(context, body=json.dumps(json.loads(BODY) | addition), signed_by="next")
    async with living(context, on_adopt=adopt):
        record = await ends(context)
    assert record.model(Launch).spec == launch().spec
    assert (record.get("signed_by"), len(adopted)) == ("next", 1)


async def never(_record: OwnedRecord, _stored: StoredRecord) -> None:
    """Fail the test: what can't be read is not worked on."""
    raise AssertionError


@pytest.mark.parametrize("writes_first", [False, True])
async def test_a_record_whose_work_always_fails_ends_after_five_adoptions(
    context: ProcessContext, writes_first: bool
) -> None:
    adoptions = 0

    async def adopt(record: OwnedRecord, _stored: StoredRecord) -> None:
        nonlocal adoptions
        adoptions += 1
        if writes_first:
            await record.write(message_event("again"))
        raise ValueError("poison")

    await orphan(context)
    async with living(context, on_adopt=adopt):
        record = await ends(context)
        await check_end(context, record)
    assert (adoptions, record.get("failure")) == (5, "")


async def test_followers_at_another_process_see_the_end(context: ProcessContext, valkey: Valkey) -> None:
    await orphan(context, body="{")
    async with another_context(valkey, **QUICK) as other:
        following = asyncio.create_task(other.bus.wait_for_end(TOPIC))
        async with living(context, on_adopt=never):
            await asyncio.wait_for(following, 60)
        await check_end(context, await ends(context))


async def test_others_are_adopted_while_one_cannot_be_read(context: ProcessContext) -> None:
    await orphan(context, body="{")
    healthy = [Topic(Kind.LAUNCH, f"healthy-{number}") for number in range(20)]
    dead = member_of(context)
    await dead.take_lease()
    for topic in healthy:
        await context.records.create(topic, launch(), message_event("first"), process=dead.process)
    await die(context, dead)

    member = await sweeper_of(context)
    await member.sweep_once()
    adopted = set()
    while claim := await context.records.adopt("gateway", member.process):
        adopted.add(claim[1].topic)
    assert adopted == set(healthy)


async def test_an_orphan_of_an_unknown_kind_is_dropped(context: ProcessContext) -> None:
    await context.redis.hset(f"{context.keys.prefix}:{{x:y}}:record", mapping={"epoch": "1", "owner": "", "claim": ""})
    await context.redis.sadd(context.keys.orphans("gateway"), "x:y", "nonsense", b"\xff")
    member = member_of(context)
    await member.take_lease()
    assert await context.records.adopt("gateway", member.process) is None
    assert not await context.redis.exists(context.keys.orphans("gateway"), context.keys.owned(member.process))


async def test_many_orderly_hand_overs_do_not_end_a_record(context: ProcessContext) -> None:
    await orphan(context)
    sweeper = await sweeper_of(context)
    await sweeper.sweep_once()
    for _ in range(12):
        member = member_of(context)
        await member.take_lease()
        assert await context.records.adopt("gateway", member.process)
        await member.hand_over()


@pytest.mark.parametrize("lives_long", [False, True])
async def test_deaths_end_a_record_only_if_each_owner_died_soon(
    valkey: Valkey, redis: object, lives_long: bool
) -> None:
    settings = {**QUICK, "adoption_trial_seconds": 0.0 if lives_long else 60.0}
    async with another_context(valkey, **settings) as context:
        await orphan(context)
        adoptions = 0
        for _ in range(8):
            await sweep_as_another(context)
            async with another_context(valkey, **settings) as another:
                member = member_of(another)
                await member.take_lease()
                if await another.records.adopt("gateway", member.process) is None:
                    break
                adoptions += 1
                await another.records.orphans.end_trials()
                await die(another, member)
        assert adoptions == (8 if lives_long else 5)
        if not lives_long:
            await check_end(context, await ends(context))


async def test_an_outage_of_redis_is_not_put_down_to_the_record(context: ProcessContext) -> None:
    adoptions = 0

    async def adopt(record: OwnedRecord, stored: StoredRecord) -> None:
        nonlocal adoptions
        adoptions += 1
        if adoptions < 8:
            await context.redis.hdel(context.keys.record(TOPIC), "on_trial")
            raise RedisConnectionError("away")
        await record.write(message_event("done"), body=stored.model(Launch), final=True)

    await orphan(context)
    async with living(context, on_adopt=adopt):
        record = await ends(context)
    assert (adoptions, record.get("adoptions")) == (8, "1")


async def test_a_build_without_a_readable_repository_is_not_public() -> None:
    topic = Topic(Kind.BUILD, "one")
    assert not is_public(StoredRecord(topic, {}))
    assert not is_public(StoredRecord(topic, {"repo": "{"}))
