"""The connection to Redis: over each transport with the same bounds, and counted."""

from typing import Any

import pytest
from redis.asyncio import Connection, Redis, SSLConnection, UnixDomainSocketConnection

from services.common.redis.client import connect
from services.common.redis.connections import CountingConnection
from services.common.service.settings import ServiceSettings
from tests.support.metrics import sample
from tests.support.valkey import Valkey, service_settings


@pytest.mark.parametrize(
    ("url", "transport"),
    [
        ("redis://user:word@127.0.0.1:6379/0", Connection),
        ("rediss://user:word@127.0.0.1:6379/0", SSLConnection),
        ("unix://user:word@/run/redis.sock?db=0", UnixDomainSocketConnection),
    ],
)
async def test_each_transport_has_the_same_bounds_and_is_counted(url: str, transport: type) -> None:
    settings = ServiceSettings(redis_url=url, redis_timeout_seconds=7)
    async with connect(settings) as client:
        connection: Any = client.connection_pool.make_connection()
        assert (connection.socket_timeout, connection.socket_connect_timeout) == (7, 7)
        assert (connection.username, connection.password, int(connection.db)) == ("user", "word", 0)
        assert {transport, CountingConnection} <= set(type(connection).__mro__)


def round_trips() -> float:
    return sum(sample("bindery_redis_round_trips_total", doing=doing) for doing in ("upkeep", "work"))


async def test_a_command_over_a_unix_socket_is_one_round_trip(valkey: Valkey, redis: Redis) -> None:
    async with connect(service_settings(valkey)) as client:
        await client.ping()
        before = round_trips()
        await client.ping()
        after = round_trips()
        assert after - before == 1
