"""Nouns in a real Redis: every write compares epoch and claim first, and is safe to repeat."""

import asyncio
import time

import pytest
from redis.asyncio import Redis

from services.common.context import ProcessContext
from services.common.models import Event, Launch, LaunchId, LaunchState, Phase, Spec
from services.common.records.owned_record import FENCED, Fenced, OwnedRecord, RecordLost
from services.common.records.stored_record import StoredRecord
from services.common.redis.keys import Kind, Topic
from services.common.redis.scripts import ScriptArg
from services.common.streams.entries import Entry
from services.common.streams.log_store import stream_entries
from tests.support.valkey import another_stage, member_of

TOPIC = Topic(Kind.LAUNCH, "one")


def launch(state: LaunchState = LaunchState.RESOLVING) -> Launch:
    return Launch(
        launch_id=LaunchId("one"), launch_ref="ref", spec=Spec(provider="git", spec="x"), principal="anon:x",
        state=state, created_at=time.time(),
    )  # fmt: skip


def said(message: str) -> Event:
    return Event(phase=Phase.BUILDING, message=message)


async def created(
    context: ProcessContext, process: str = "gateway-a", *, rewrite_if_missing: bool = False
) -> OwnedRecord:
    claimed, _ = await context.records.create(
        TOPIC,
        launch(),
        said("first"),
        process=process,
        fields={"request": "kept"},
        rewrite_if_missing=rewrite_if_missing,
    )
    assert isinstance(claimed, OwnedRecord)
    return claimed


async def entries_of(context: ProcessContext) -> list[Entry]:
    return await stream_entries(context.redis, context.keys, TOPIC)


async def messages_of(context: ProcessContext) -> list[str]:
    return [event["message"] for entry in await entries_of(context) for event in entry.events]


class LosesItsLastSecond:
    """What a Redis has after a kill: the noun as it was when this was made."""

    def __init__(self, context: ProcessContext) -> None:
        self._context = context
        self._keys = [context.keys.record(TOPIC), context.keys.events(TOPIC)]
        self._kept: list[bytes] = []

    async def keep(self) -> None:
        self._kept = [await self._context.redis.dump(key) for key in self._keys]

    async def come_back(self) -> None:
        for key, kept in zip(self._keys, self._kept, strict=True):
            await self._context.redis.restore(key, 0, kept, replace=True)


async def test_what_is_created_is_read_back_and_another_claim_finds_it_there(context: ProcessContext) -> None:
    await created(context)
    found = await context.records.read(TOPIC)
    assert found
    assert found.model(Launch).launch_ref == "ref"
    assert found.get("request") == "kept"
    again, _ = await context.records.create(TOPIC, launch(), said("second"), process="gateway-b")
    assert isinstance(again, StoredRecord)
    assert await messages_of(context) == ["first"]


async def test_creating_again_after_a_lost_reply_answers_as_the_first_time(
    context: ProcessContext, redis: Redis
) -> None:
    keys = context.keys
    names = [keys.record(TOPIC), keys.events(TOPIC), keys.owned("p"), keys("idempotency:k"), keys.alive("p"), "ps"]
    args: list[ScriptArg] = ["l:one", "p", "claim", keys.news(TOPIC), "value", 60_000, 1, "state", "resolving", 1, "[]"]
    first = await context.records.scripts.run("create", names, args)
    assert first[0] == b"created"
    assert await context.records.scripts.run("create", names, args) == first
    assert await redis.xlen(keys.events(TOPIC)) == 1
    args[2] = "another"
    assert await context.records.scripts.run("create", names, args) == [b"known", b"value"]


async def test_a_write_of_an_owner_of_old_is_fenced_and_counted(context: ProcessContext) -> None:
    async with member(context, "gateway") as new:
        old = await created(context, new)
        await context.redis.hset(context.keys.record(TOPIC), mapping={"owner": "", "claim": "", "epoch": 2})
        found = await context.records.adopt("gateway", new, topic=TOPIC)
        assert found
        assert found[0].epoch == 3
        before = FENCED.labels("l")._value.get()
        with pytest.raises(Fenced):
            await old.write(said("too late"))
        assert FENCED.labels("l")._value.get() == before + 1
        await found[0].write(said("second"))
        assert await messages_of(context) == ["first", "second"]


class member:  # noqa: N801 - reads as a function
    """A living process of a stage; its name."""

    def __init__(self, context: ProcessContext, name: str) -> None:
        self._member = member_of(context, name)

    async def __aenter__(self) -> str:
        await self._member.begin()
        return self._member.process

    async def __aexit__(self, *_: object) -> None:
        await self._member.hand_over()


async def test_a_write_repeated_under_its_number_is_one_write(context: ProcessContext) -> None:
    claimed = await created(context)
    await claimed.write(said("second"))
    claimed.seq -= 1
    await claimed.write(said("second"))
    assert await messages_of(context) == ["first", "second"]


async def test_a_final_state_never_changes(context: ProcessContext) -> None:
    claimed = await created(context)
    await claimed.write(said("end"), body=launch(LaunchState.READY), final=True)
    with pytest.raises(Fenced):
        await claimed.write(said("more"), body=launch(LaunchState.FAILED))
    found = await context.records.read(TOPIC)
    assert found
    assert found.model(Launch).state is LaunchState.READY
    assert await context.redis.pttl(context.keys.record(TOPIC)) > 0
    assert not await context.redis.exists(context.keys.owned("gateway-a"))


async def test_concurrent_writes_of_one_owner_are_all_kept(context: ProcessContext) -> None:
    claimed = await created(context)
    await asyncio.gather(*(claimed.write(said(str(number))) for number in range(50)))
    assert await messages_of(context) == ["first", *(str(number) for number in range(50))]


async def test_a_lost_last_second_comes_back_under_the_positions_it_had(context: ProcessContext) -> None:
    claimed = await created(context)
    lost = LosesItsLastSecond(context)
    await claimed.write(said("second"))
    await lost.keep()
    await claimed.write(said("third"), body=launch(LaunchState.BUILDING), fields={"position": "7"})
    await claimed.write(fields={"position": "8"})
    before = await entries_of(context)
    await lost.come_back()
    assert await messages_of(context) == ["first", "second"]
    await claimed.write(said("fourth"))
    after = await entries_of(context)
    assert [entry.id for entry in after][:-1] == [entry.id for entry in before]
    assert await messages_of(context) == ["first", "second", "third", "fourth"]
    assert [entry.lines for entry in after] == [0, 1, 2, 3]
    found = await context.records.read(TOPIC)
    assert found
    assert (found.get("position"), found.model(Launch).state) == ("8", LaunchState.BUILDING)


async def test_followers_elsewhere_hear_nothing_twice_when_it_comes_back(
    context: ProcessContext, valkey: object
) -> None:
    async with another_stage(valkey) as other:  # type: ignore[arg-type]
        claimed = await created(context)
        lost = LosesItsLastSecond(context)
        await lost.keep()
        heard: list[str] = []

        async def follow() -> None:
            async for _, event in other.bus.events(TOPIC):
                heard.append(event["message"])

        following = asyncio.create_task(follow())
        await claimed.write(said("second"))
        await until(lambda: heard == ["first", "second"])
        await lost.come_back()
        await claimed.write(Event(phase=Phase.READY, message="end", terminal=True))
        await asyncio.wait_for(following, 10)
        assert heard == ["first", "second", "end"]


async def until(condition: object, seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.01)


async def test_a_record_that_an_emptied_redis_lost_ends_its_owner(context: ProcessContext) -> None:
    claimed = await created(context)
    await context.redis.flushall()
    with pytest.raises(RecordLost):
        await claimed.write(said("second"))


async def test_a_record_is_written_anew_whole_where_its_owner_wants_that(context: ProcessContext) -> None:
    claimed = await created(context, rewrite_if_missing=True)
    await claimed.write(said("second"), body=launch(LaunchState.BUILDING))
    before = [entry.id for entry in await entries_of(context)]
    await context.redis.flushall()
    await context.records.rewrite()
    found = await context.records.read(TOPIC)
    assert found
    assert (found.get("request"), found.model(Launch).state) == ("kept", LaunchState.BUILDING)
    assert [entry.id for entry in await entries_of(context)] == before
    assert await context.redis.smembers(context.keys.owned("gateway-a")) == {b"l:one"}
