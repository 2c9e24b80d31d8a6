"""What a changed policy refuses ends: at each gateway, with the reason that its user reads."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from services.common.models import BuildState, LaunchState, Spec
from services.common.models.policy import LinkToCheck, RunningServer
from tests.support.in_process_gateway import Gateway, open_gateway
from tests.support.polling import until
from tests.support.valkey import Valkey

pytestmark = pytest.mark.usefixtures("redis")
REFUSAL = "Sorry, git/x/bad is not allowed to launch here. It mines coins."
SELDOM = {"reread_seconds": 600.0}
"""Nothing is looked up that a message tells."""


async def ban(*gateways: Gateway, version: int = 1) -> None:
    """Have the resolver ban a link, and tell the gateways."""
    for gateway in gateways:
        gateway.backends.banned = {"x/bad": REFUSAL}
        gateway.backends.policy_version = version
    await gateways[0].context.redis.publish(gateways[0].context.keys.policy_news, str(version))


async def test_a_ban_ends_the_launches_of_all_gateways_and_leaves_others_alone(valkey: Valkey) -> None:
    async with AsyncExitStack() as stack:
        gateways = [await stack.enter_async_context(open_gateway(valkey, **SELDOM)) for _ in range(2)]
        banned = [await gateway.begin("x/bad") for gateway in gateways]
        other = await gateways[0].begin("x/good")
        for gateway, launch in zip(gateways, banned, strict=True):
            await gateway.until_state(launch, LaunchState.BUILDING)
        await gateways[0].until_state(other, LaunchState.BUILDING)

        await ban(*gateways)
        for gateway, launch in zip(gateways, banned, strict=True):
            ended = await gateway.until_ended(launch, LaunchState.FAILED)
            assert ended.error
            assert (ended.error.code, ended.error.detail) == ("banned", REFUSAL)
            assert next(call for call in gateway.backends.calls if call.startswith("leave")).endswith("stop")
        assert (await gateways[0].read_launch(other)).state is LaunchState.BUILDING


async def test_a_ban_stops_the_server_of_a_launch(valkey: Valkey) -> None:
    async with open_gateway(valkey, **SELDOM) as gateway:
        launch = await gateway.begin("x/bad", detached=True)
        await gateway.until_build(1)
        await gateway.backends.end_build(BuildState.BUILT)
        await gateway.until_state(launch, LaunchState.LAUNCHING)
        await ban(gateway)
        await gateway.until_ended(launch, LaunchState.FAILED)
        assert f"stop {launch.launch_ref} 0" in gateway.backends.calls


async def test_running_servers_end_if_a_ban_says_so(valkey: Valkey) -> None:
    async with open_gateway(valkey, **SELDOM) as gateway:
        gateway.backends.servers = [
            RunningServer(server_id=name, link=LinkToCheck(spec=Spec(provider="git", spec=f"x/{name}")))
            for name in ("good", "bad")
        ]
        await ban(gateway)
        await gateway.until(lambda: "end bad" in gateway.backends.calls, "the server ends")
        assert "end good" not in gateway.backends.calls


async def test_a_launch_that_is_being_resolved_is_asked_about_again(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.gateway.launches.bans.AGAIN_SECONDS", 0.05)
    async with open_gateway(valkey, **SELDOM) as gateway:
        resolved = asyncio.Event()
        resolve = gateway.backends.resolve

        async def slow(*args: object, **options: object) -> object:
            await resolved.wait()
            return await resolve(*args, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(gateway.backends, "resolve", slow)
        launch = await gateway.begin("x/renamed")
        gateway.backends.policy_version = 1
        await gateway.context.redis.publish(gateway.context.keys.policy_news, "1")
        await gateway.until(lambda: len(gateway.backends.questions) >= 4, "it is asked again")
        resolved.set()
        gateway.backends.banned = {"x/renamed": REFUSAL}
        await gateway.until_ended(launch, LaunchState.FAILED)


async def test_a_resolver_with_the_policy_of_before_is_asked_again(valkey: Valkey) -> None:
    async with open_gateway(valkey, **SELDOM) as gateway:
        launch = await gateway.begin("x/bad")
        await gateway.until_state(launch, LaunchState.BUILDING)
        await gateway.context.redis.publish(gateway.context.keys.policy_news, "1")
        await gateway.until(lambda: bool(gateway.backends.questions), "it is asked")
        await ban(gateway)
        await gateway.until_ended(launch, LaunchState.FAILED)


async def test_without_the_message_a_ban_is_found_by_the_next_look(valkey: Valkey) -> None:
    async with open_gateway(valkey) as gateway:
        launch = await gateway.begin("x/bad")
        await gateway.until_state(launch, LaunchState.BUILDING)
        gateway.backends.banned = {"x/bad": REFUSAL}
        gateway.backends.policy_version = 1
        await gateway.until_ended(launch, LaunchState.FAILED)


async def test_a_launch_that_is_taken_over_is_asked_about_by_its_new_gateway(valkey: Valkey) -> None:
    async with open_gateway(valkey, **SELDOM) as taker:
        taker.backends.banned = {"x/bad": REFUSAL}
        taker.backends.policy_version = 1
        async with open_gateway(valkey, **SELDOM) as gateway:
            launch = await gateway.begin("x/bad", detached=True)
            await gateway.until_state(launch, LaunchState.BUILDING)

        async def has_ended() -> bool:
            return (await taker.read_launch(launch)).state is LaunchState.FAILED

        await until(has_ended, "the launch has ended")
