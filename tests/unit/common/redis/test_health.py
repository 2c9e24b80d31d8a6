"""What health says of a Redis that can't be used as it is, and that everybody may use."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from ipaddress import ip_address
from typing import Any

import psutil
import pytest
from redis.asyncio import Redis

from deploy.local.redis import redis_binary
from services.common.redis.client import connect
from services.common.redis.health import address_of, open_to_all, redis_failure
from services.common.redis.rights import Refusals
from services.common.service.health import CheckFailure
from services.common.service.settings import ServiceSettings
from tests.support.polling import until
from tests.support.ports import free_ports
from tests.support.settings import settings_for
from tests.support.valkey import PASSWORD, Valkey


async def failure_of(url: str, **others: Any) -> CheckFailure | None:
    settings = settings_for(ServiceSettings, {"redis_url": url, **others})
    redis = connect(settings)
    try:
        return await redis_failure(redis, Refusals(), settings)
    finally:
        await redis.aclose()


async def detail_of(url: str, **others: Any) -> str:
    failure = await failure_of(url, **others)
    return failure.detail if failure else ""


async def test_a_user_of_its_own_will_do(valkey: Valkey) -> None:
    assert await failure_of(valkey.url_of("gateway")) is None


async def test_a_password_that_is_wrong_and_a_redis_that_is_away_each_say_what_to_do(valkey: Valkey) -> None:
    wrong = await detail_of(valkey.url_of("gateway").replace(PASSWORD, "not-this"))
    assert wrong.startswith(f"Redis at {valkey.socket} refuses the user or the password in BINDERY_REDIS_URL: ")
    assert "not-this" not in wrong
    (port,) = free_ports(1, set())
    away = await detail_of(f"redis://a:{PASSWORD}@127.0.0.1:{port}/0")
    assert away.startswith(f"Redis at 127.0.0.1:{port}/0 does not answer (")
    assert PASSWORD not in away


# Without a password


def own_address() -> str:
    """An address of this machine that is not loopback."""
    for addresses in psutil.net_if_addrs().values():
        for address in addresses:
            with contextlib.suppress(ValueError):
                if ip_address(address.address).version == 4 and not ip_address(address.address).is_loopback:
                    return address.address
    pytest.skip("this machine has no other address than loopback")


@contextlib.asynccontextmanager
async def open_redis(protected: str) -> AsyncIterator[int]:
    """A Redis without users and passwords, on all addresses; `protected` is Redis's own mode against that."""
    (port,) = free_ports(1, set())
    options = ["--port", str(port), "--bind", "0.0.0.0", "--protected-mode", protected, "--save", ""]  # noqa: S104
    process = await asyncio.create_subprocess_exec(str(redis_binary()), *options, stdout=asyncio.subprocess.DEVNULL)

    async def answers() -> bool:
        async with Redis(port=port) as redis:
            with contextlib.suppress(Exception):
                return bool(await redis.ping())
        return False

    try:
        await until(answers, "Redis answers")
        yield port
    finally:
        process.kill()
        await process.wait()


async def test_a_redis_on_another_host_that_lets_everybody_in_is_not_healthy() -> None:
    async with open_redis("no") as port:
        url = f"redis://{own_address()}:{port}/0"
        failure = await failure_of(url)
        assert failure
        assert failure.detail.startswith(f"Redis at {own_address()}:{port}/0 asks for no password, so whoever ")
        assert own_address() not in failure.shown
        assert await failure_of(url, redis_password_required=False) is None
        assert await failure_of(f"redis://127.0.0.1:{port}/0") is None


@pytest.mark.parametrize(
    ("url", "is_open"),
    [
        ("redis+sentinel://192.0.2.1:1,127.0.0.1:1/main/0", True),
        ("redis+sentinel://user:password@192.0.2.1:1/main/0", False),
        ("redis+sentinel://127.0.0.1:1/main/0", False),
    ],
)
async def test_a_redis_behind_sentinels_on_other_hosts_needs_a_password_too(url: str, is_open: bool) -> None:
    settings = settings_for(ServiceSettings, {"redis_url": url})
    redis = connect(settings)
    try:
        assert (open_to_all(redis, settings) is not None) == is_open
    finally:
        await redis.aclose()


async def test_a_redis_that_refuses_others_as_it_has_no_password_says_what_to_do() -> None:
    async with open_redis("yes") as port:
        assert "has no users and no password: give it" in await detail_of(f"redis://{own_address()}:{port}/0")


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://user:p@ss@host:6379/0", "host:6379/0"),
        ("redis://host", "host"),
        ("unix://user:password@/run/redis.sock?db=0&password=x", "/run/redis.sock"),
        ("unix:///run/redis.sock?db=0&password=p@ss", "/run/redis.sock"),
        ("redis://host:6379/0?password=p@ss", "host:6379/0"),
        ("redis+sentinel://u:p@a:1,b:2/main/0", "a:1,b:2/main/0"),
    ],
)
def test_an_address_has_no_password_in_it(url: str, address: str) -> None:
    assert address_of(settings_for(ServiceSettings, {"redis_url": url})) == address
