"""The look for launches that nobody follows: one for all of a gateway, and each launch is judged by itself."""

import pytest

from services.common.models import LaunchState
from services.common.redis.keys import Kind, Topic
from services.common.service.call_accounting import attributed_to
from services.common.service.loops import background_state
from tests.support.in_process_gateway import open_gateway
from tests.support.metrics import sample
from tests.support.valkey import Valkey

pytestmark = pytest.mark.usefixtures("redis")


async def test_all_launches_of_a_gateway_are_looked_at_by_one_loop_and_one_round_trip(valkey: Valkey) -> None:
    async with open_gateway(valkey) as gateway:
        for _ in range(3):
            await gateway.until_state(await gateway.begin(), LaunchState.BUILDING)
        assert [loop.name for loop in background_state().loops].count("abandonment") == 1

        before = sample("bindery_redis_round_trips_total", doing="look")
        # Nothing else is counted under this label, not even the logins of new connections.
        with attributed_to("look"):  # type: ignore[arg-type]  # the product has no such label
            await gateway.launches.abandonment._look()
        assert sample("bindery_redis_round_trips_total", doing="look") == before + 1


@pytest.mark.parametrize("damage", ["seen", "record"])
async def test_a_damaged_launch_keeps_no_other_from_being_abandoned(valkey: Valkey, damage: str) -> None:
    async with open_gateway(valkey, abandoned_seconds=0.8) as gateway:
        damaged = await gateway.begin()
        await gateway.until_state(damaged, LaunchState.BUILDING)
        key = gateway.context.keys.record(Topic(Kind.LAUNCH, damaged.launch_id))
        if damage == "seen":
            await gateway.context.redis.hset(key, "seen", "damaged")
        else:
            await gateway.context.redis.set(key, "no hash")

        error = (await gateway.until_ended(await gateway.begin(), LaunchState.CANCELLED)).error
        assert error
        assert error.code == "abandoned"
        if damage == "seen":  # nobody knows whether it is followed
            assert (await gateway.read_launch(damaged)).state is LaunchState.BUILDING
