"""A launch that can't be read is an error for those who ask about it, and one whose build can't be read goes on."""

from typing import Any

import pytest

from services.common.models import BuildState, Event, LaunchOptions, LaunchState, Phase, Spec
from services.common.models.errors import BinderyError
from services.common.records.stored_record import RecordUnreadable
from services.gateway.launches.launch_run import launch_topic
from tests.support.in_process_gateway import open_gateway
from tests.support.valkey import Valkey

pytestmark = pytest.mark.usefixtures("redis")


@pytest.mark.parametrize("value", ["{", "[]", '{"v": 2, "launch": "of the next release"}'])
async def test_a_damaged_idempotency_key_starts_no_second_launch(valkey: Valkey, value: str) -> None:
    async with open_gateway(valkey) as gateway:
        request: dict[str, Any] = {
            "principal": "anon:x",
            "options": LaunchOptions(),
            "idempotency_key": "0123456789abcdef",
            "body_hash": "hash",
        }
        launch, is_new = await gateway.launches.start(Spec(provider="git", spec="x/a"), **request)
        assert is_new
        (key,) = await gateway.context.redis.keys("*:idempotency:*")
        await gateway.context.redis.set(key, value, keepttl=True)
        with pytest.raises(BinderyError) as raised:
            await gateway.launches.start(Spec(provider="git", spec="x/a"), **request)
        assert raised.value.code == "record_unreadable"
        assert len(await gateway.context.redis.keys("*{l:*}:record")) == 1
        await gateway.launches.cancel(launch.launch_id, "anon:x")
        await gateway.until_ended(launch, LaunchState.CANCELLED)


async def test_reading_cancelling_and_following_it_to_its_end_say_so(valkey: Valkey) -> None:
    async with open_gateway(valkey) as gateway:
        launch = await gateway.begin()
        await gateway.until_build(1)
        await gateway.launches.cancel(launch.launch_id, "anon:x")
        await gateway.until_ended(launch, LaunchState.CANCELLED)
        gateway.launches._ended_conductors.clear()
        await gateway.context.redis.hset(gateway.context.keys.record(launch_topic(launch.launch_id)), "body", "{")

        with pytest.raises(RecordUnreadable):
            await gateway.launches.read(launch.launch_id, "anon:x")
        with pytest.raises(RecordUnreadable):
            await gateway.launches.cancel(launch.launch_id, "anon:x")
        seen, server = await gateway.launches.outcome_of(launch.launch_id)
        assert seen.error
        assert (seen.state, seen.error.code, server) == (LaunchState.FAILED, "record_unreadable", None)


async def test_a_build_whose_record_cannot_be_read_is_requested_again(valkey: Valkey) -> None:
    async with open_gateway(valkey) as gateway:
        launch = await gateway.begin()
        await gateway.until_build(1)
        await gateway.until_state(launch, LaunchState.BUILDING)
        end = Event(phase=Phase.FAILED, state=BuildState.FAILED, terminal=True)
        await gateway.backends.owned_records["b"].write(end, fields={"state": "failed", "body": "{"}, final=True)
        await gateway.until_build(2)
        await gateway.backends.end_build(BuildState.BUILT)
        await gateway.until_state(launch, LaunchState.LAUNCHING)
