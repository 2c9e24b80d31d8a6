"""The story of one record: how a process owns it, how it loses that, and how nothing is lost in between.

Read it from top to bottom to learn the words. Each chapter says what happens and then what Redis holds: *owner* and
*claim* say who may write, the *epoch* counts hand-overs, and *seq* is the number of the last write.
"""

import pytest

from services.common.context import ProcessContext
from services.common.models import Event, LaunchState, Phase
from services.common.records.owned_record import Fenced
from tests.support.metrics import sample
from tests.support.sample_records import (
    TOPIC,
    LosesItsLastSecond,
    create_record,
    entries_of,
    fields_of,
    launch,
    message_event,
    messages_of,
)
from tests.support.valkey import Valkey, another_context, die, member_of, trust_leases


async def test_the_story_of_a_record(context: ProcessContext, valkey: Valkey) -> None:
    keys = context.keys
    redis = context.redis

    async with another_context(valkey) as elsewhere:
        # Two processes of one service, each with a lease: a key that expires unless it is renewed.
        first = member_of(context)
        second = member_of(elsewhere)
        await first.take_lease()
        await second.take_lease()
        trust_leases(second)

        # 1. Creation. The first process creates the record and owns it, by a random word: its claim.
        by_first = await create_record(context, first.process)
        assert await fields_of(context, "owner", "epoch", "seq", "lines") == [first.process, "1", "1", "1"]
        assert await fields_of(context, "claim") == [by_first.claim]
        assert await redis.smembers(keys.owned(first.process)) == {b"l:one"}

        # 2. A write. It has the next number. Repeated under that number, as after a lost reply, it changes nothing.
        await by_first.write(message_event("second"))
        by_first.seq = 1  # as if the reply had been lost
        by_first.lines = 1
        await by_first.write(message_event("second"))
        assert await fields_of(context, "owner", "epoch", "seq", "lines") == [first.process, "1", "2", "2"]
        assert await messages_of(context) == ["first", "second"]

        # 3. Redis falls behind: it restarts without the last write that it confirmed. Its number is below the one that
        #    the owner knows, so the owner's next write restores the lost entry, under the position that it had.
        crash = LosesItsLastSecond(context)
        await crash.keep()
        await by_first.write(message_event("third"))
        positions = [entry.id for entry in await entries_of(context)]
        await crash.come_back()
        assert await fields_of(context, "seq") == ["2"]
        await by_first.write(message_event("fourth"))
        assert await fields_of(context, "owner", "epoch", "seq", "lines") == [first.process, "1", "4", "4"]
        assert await messages_of(context) == ["first", "second", "third", "fourth"]
        assert [entry.id for entry in await entries_of(context)][:3] == positions

        # 4. An orphan. The first process dies, or seems to: its lease runs out. Whoever sweeps raises the epoch, takes
        #    the owner away, and offers the record to all.
        await die(context, first)
        await second.sweep_once()
        assert await fields_of(context, "owner", "claim", "epoch", "seq") == ["", "", "2", "4"]
        assert await redis.smembers(keys.orphans("gateway")) == {b"l:one"}
        assert not await redis.exists(keys.owned(first.process))

        # 5. Adoption. The second process claims the orphan, which raises the epoch once more. Its numbers begin far
        #    above, in case Redis has lost some that followers have seen.
        adopted = await elsewhere.records.adopt("gateway", second.process)
        assert adopted
        by_second, stored = adopted
        assert stored.model(type(launch())).state is LaunchState.RESOLVING
        assert await fields_of(context, "owner", "epoch", "seq") == [second.process, "3", "4"]
        assert await fields_of(context, "claim") == [by_second.claim]
        assert not await redis.exists(keys.orphans("gateway"))

        # 6. The fence. The first process was only paused. Its write carries an epoch of old: Redis refuses it.
        fenced_total = sample("bindery_fenced_total", kind="l")
        with pytest.raises(Fenced):
            await by_first.write(message_event("too late"))
        assert sample("bindery_fenced_total", kind="l") == fenced_total + 1

        # 7. The work goes on where it was.
        await by_second.write(message_event("fifth"), body=launch(LaunchState.BUILDING))
        assert await fields_of(context, "state", "epoch", "seq", "lines") == ["building", "3", "1005", "5"]
        assert await messages_of(context) == ["first", "second", "third", "fourth", "fifth"]

        # 8. Redis is emptied. The lease is taken a second time, and the owner writes again what it knows: every
        #    field, and its own last entries.
        await redis.flushall()
        await second.take_lease()
        assert await elsewhere.records.restore(TOPIC)
        assert await fields_of(context, "owner", "epoch", "state", "request") == [
            second.process, "3", "building", "kept",
        ]  # fmt: skip
        assert await fields_of(context, "claim", "seq", "lines") == [by_second.claim, "1006", "5"]
        assert await messages_of(context) == ["fifth"]

        # 9. The end. The last write takes the owner away for good, and the record goes after a while.
        end = Event(phase=Phase.READY, message="sixth", terminal=True)
        await by_second.write(end, body=launch(LaunchState.READY), final=True)
        assert await fields_of(context, "owner", "final", "state") == ["", "1", "ready"]
        assert not await redis.exists(keys.owned(second.process))
        assert await redis.pttl(keys.record(TOPIC)) > 0
        with pytest.raises(Fenced):
            await by_second.write(message_event("too late"))
