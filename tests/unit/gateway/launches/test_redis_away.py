"""Redis is away while a launch waits for another service, which waits for Redis: the launch goes on afterwards."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from services.common.models import BuildState, LaunchState
from services.common.models.error_codes import ErrorCode
from services.common.models.errors import BinderyError
from tests.support.in_process_gateway import FakeBackends, Gateway, open_gateway
from tests.support.valkey import Valkey

LEASE_SECONDS = 1.0
AWAY_SECONDS = 1.5


@pytest.fixture
async def gateway(own_valkey: Valkey) -> AsyncIterator[Gateway]:
    """A gateway that notices soon that Redis is away."""
    async with open_gateway(own_valkey, lease_seconds=LEASE_SECONDS) as gateway:
        yield gateway


class FailingCall:
    """The next call of a service: it gets no reply until the test says so, and then it has failed."""

    def __init__(self, backends: FakeBackends, name: str, error: Exception) -> None:
        self._backends = backends
        self._name = name
        self._error = error
        self._original = getattr(backends, name)
        self.is_sent = asyncio.Event()
        self.fail = asyncio.Event()
        setattr(backends, name, self._call)

    async def _call(self, *_args: Any) -> Any:
        setattr(self._backends, self._name, self._original)
        self.is_sent.set()
        await self.fail.wait()
        raise self._error


async def reach(gateway: Gateway, call: FailingCall, *, has_build: bool) -> None:
    """Let the launch come to that call."""
    if has_build:
        await gateway.until_build(1)
        await gateway.backends.end_build(BuildState.BUILT)
    async with asyncio.timeout(60):
        await call.is_sent.wait()


async def become_ready(gateway: Gateway, *, has_build: bool) -> None:
    """Let the rest of the launch end well."""
    if not has_build:
        await gateway.until(lambda: "b" in gateway.backends.owned_records, "the build is there")
        await gateway.backends.end_build(BuildState.BUILT)
    await gateway.until(lambda: "s" in gateway.backends.owned_records, "the server is there")
    await gateway.backends.become_ready()


CALLS: list[tuple[str, ErrorCode]] = [
    ("resolve", "resolver_unavailable"),
    ("build", "builder_unavailable"),
    ("start_server", "launcher_unavailable"),
]


@pytest.mark.slow
@pytest.mark.parametrize("fails_before_redis_is_back", [True, False])
@pytest.mark.parametrize(("name", "code"), CALLS)
async def test_a_request_that_an_outage_has_failed_is_repeated(
    own_valkey: Valkey, gateway: Gateway, name: str, code: ErrorCode, fails_before_redis_is_back: bool
) -> None:
    has_build = name == "start_server"
    call = FailingCall(gateway.backends, name, BinderyError(code))
    launch = await gateway.begin()
    await reach(gateway, call, has_build=has_build)

    own_valkey.kill()
    await asyncio.sleep(AWAY_SECONDS)
    if fails_before_redis_is_back:
        call.fail.set()
    await asyncio.to_thread(own_valkey.start)
    if not fails_before_redis_is_back:
        await asyncio.sleep(2 * LEASE_SECONDS)  # the service has no answer yet when everything else goes on
        call.fail.set()

    await become_ready(gateway, has_build=has_build)
    await gateway.until_ended(launch, LaunchState.READY)


@pytest.mark.parametrize("name", [name for name, _ in CALLS])
async def test_a_service_whose_redis_alone_is_away_is_waited_for(gateway: Gateway, name: str) -> None:
    has_build = name == "start_server"
    call = FailingCall(gateway.backends, name, BinderyError("redis_unavailable"))
    launch = await gateway.begin()
    await reach(gateway, call, has_build=has_build)
    call.fail.set()
    await become_ready(gateway, has_build=has_build)
    await gateway.until_ended(launch, LaunchState.READY)


@pytest.mark.slow
async def test_a_service_that_is_away_after_an_outage_fails_the_launch(own_valkey: Valkey, gateway: Gateway) -> None:
    await own_valkey.be_away(AWAY_SECONDS)
    await gateway.until(lambda: not gateway.launches.member.was_redis_away_since(time.monotonic()), "")
    call = FailingCall(gateway.backends, "resolve", BinderyError("resolver_unavailable"))
    launch = await gateway.begin()
    await reach(gateway, call, has_build=False)
    call.fail.set()
    await gateway.until_ended(launch, LaunchState.FAILED)


@pytest.mark.slow
async def test_a_launch_that_waits_for_redis_is_bounded_by_its_own_time(own_valkey: Valkey) -> None:
    async with open_gateway(own_valkey, launch_timeout_seconds=2.0) as gateway:
        gateway.backends.raises["resolve"] = BinderyError("redis_unavailable")
        launch = await gateway.begin()
        ended = await gateway.until_ended(launch, LaunchState.FAILED)
    assert ended.error
    assert ended.error.code == "launch_timeout"
    assert gateway.backends.calls.count("resolve") > 1


async def test_an_image_that_is_gone_is_built_again_although_an_outage_came_between(gateway: Gateway) -> None:
    launch = await gateway.begin()
    await gateway.until_build(1)
    await gateway.backends.end_build(BuildState.BUILT)
    await gateway.until(lambda: "s" in gateway.backends.owned_records, "the server is there")

    # The followers could not be told that the builder is away: the launch is conducted anew when Redis is back.
    call = FailingCall(gateway.backends, "build", RedisConnectionError("Connection refused."))
    await gateway.backends.fail_server(BinderyError("image_pull_failed"))
    async with asyncio.timeout(60):
        await call.is_sent.wait()
    del gateway.backends.owned_records["s"]
    call.fail.set()

    await gateway.until_build(2)
    assert gateway.backends.requests[-1].past_cache
    await become_ready(gateway, has_build=False)
    ended = await gateway.until_ended(launch, LaunchState.READY)
    assert ended.image
