"""Redis behind Sentinel, as docs/redis.md sets it up: the same client as with one Redis, and it follows a failover."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from deploy.redis.users import redis_user_name
from services.common.context import open_context
from services.common.redis.client import connect, retry_while_unavailable
from services.common.redis.keys import Keys, Kind, Topic
from services.common.service.settings import ServiceSettings
from tests.support.metrics import sample
from tests.support.polling import until
from tests.support.ports import free_ports
from tests.support.sentinel import SENTINEL_PASSWORD, SENTINEL_USER, SentinelCluster, running_cluster
from tests.support.settings import settings_for
from tests.support.tls import certificate_for
from tests.support.tls_front import tls_fronts
from tests.support.valkey import PASSWORD

FAILOVER_SECONDS = 20.0
KEY = "bindery:default:installation"
"""A key that a launcher may write."""
LOGIN = f"{redis_user_name('launcher')}:{PASSWORD}"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SentinelCluster]:
    quicker = {"sentinel down-after-milliseconds mymaster": "1000"}
    with running_cluster(tmp_path_factory.mktemp("sentinel"), sentinel_settings=quicker) as cluster:
        yield cluster


def settings(cluster: SentinelCluster, **others: object) -> ServiceSettings:
    values = {
        "redis_url": cluster.url_of("launcher"),
        "redis_sentinel_password": SENTINEL_PASSWORD,
        "redis_timeout_seconds": 2,
        "redis_patience_seconds": FAILOVER_SECONDS,
    }
    return settings_for(ServiceSettings, values, **others)


@contextlib.asynccontextmanager
async def client_of(cluster: SentinelCluster, **others: object) -> AsyncIterator[Redis]:
    async with connect(settings(cluster, **others)) as client:
        yield client


async def written(client: Redis, value: str) -> None:
    """Write, for as long as the services would try."""
    await retry_while_unavailable(lambda: client.set(KEY, value), seconds=FAILOVER_SECONDS)


def connections_of(cluster: SentinelCluster, user: str) -> int:
    """Return how many connections a user has at the master."""
    with contextlib.closing(cluster.admin(cluster.master)) as admin:
        return sum(client["user"] == redis_user_name(user) for client in admin.client_list())


async def test_a_pool_is_bounded_and_its_callers_wait(cluster: SentinelCluster) -> None:
    async with connect(settings(cluster), connections=3) as client:
        await asyncio.gather(*(client.set(KEY, number) for number in range(60)))
        assert connections_of(cluster, "launcher") == 3


async def test_each_command_is_one_round_trip_and_finding_the_master_is_not_work(cluster: SentinelCluster) -> None:
    async with client_of(cluster) as client:
        names = ("upkeep", "work")
        before = sum(sample("bindery_redis_round_trips_total", doing=doing) for doing in names)
        connects = sample("bindery_redis_round_trips_total", doing="connect")
        await client.ping()
        await client.ping()
        assert sum(sample("bindery_redis_round_trips_total", doing=doing) for doing in names) - before == 2
        assert sample("bindery_redis_round_trips_total", doing="connect") > connects


async def test_a_right_that_the_user_lacks_is_reported(cluster: SentinelCluster) -> None:
    context_settings = settings(cluster, redis_url=cluster.url_of("gateway"))
    async with open_context(context_settings) as context:
        with pytest.raises(Exception, match="bindery-gateway"):
            await context.redis.set("bindery:default:{queue}:jobs", "x")
        assert context.refusals.health_problem()


async def test_the_sentinels_user_may_have_one_right_alone(cluster: SentinelCluster) -> None:
    async with client_of(
        cluster, redis_sentinel_username=SENTINEL_USER, redis_sentinel_password="asks-password"
    ) as client:
        assert await client.ping()


async def test_a_wrong_password_of_the_sentinels_is_said(cluster: SentinelCluster) -> None:
    for password in ("", "wrong"):
        async with client_of(cluster, redis_sentinel_password=password) as client:
            with pytest.raises(RedisConnectionError, match="BINDERY_REDIS_SENTINEL_PASSWORD"):
                await client.ping()


async def test_a_wrong_password_of_redis_is_said(cluster: SentinelCluster) -> None:
    url = cluster.url_of("launcher").replace("bindery-launcher:", "bindery-launcher:not-")
    async with client_of(cluster, redis_url=url) as client:
        with pytest.raises(RedisConnectionError, match="invalid username-password pair"):
            await client.ping()


async def test_a_name_that_no_sentinel_knows_is_said(cluster: SentinelCluster) -> None:
    async with client_of(cluster, redis_url=cluster.url_of("launcher").replace("/mymaster/", "/another/")) as client:
        with pytest.raises(RedisConnectionError, match=r"'another'.*No such master"):
            await client.ping()


# Sentinels that are no use


@contextlib.asynccontextmanager
async def sentinel_that_answers(reply: bytes) -> AsyncIterator[int]:
    """A Sentinel that gives every command one answer; a real one can't be made to lie."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            if line.upper().startswith(b"AUTH") or line == b"master\r\n":
                continue
            if line.strip() == SENTINEL_PASSWORD.encode():
                writer.write(b"+OK\r\n")
            elif line.strip() == b"mymaster":
                writer.write(reply)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def master_reply(port: int, flags: str = "master") -> bytes:
    fields = ["name", "mymaster", "ip", "127.0.0.1", "port", str(port), "flags", flags]
    return f"*{len(fields)}\r\n".encode() + b"".join(f"${len(word)}\r\n{word}\r\n".encode() for word in fields)


def with_sentinels(cluster: SentinelCluster, *ports: int) -> str:
    first = f"127.0.0.1:{cluster.sentinels[0].port}"
    return cluster.url_of("launcher").replace(first, ",".join([*(f"127.0.0.1:{port}" for port in ports), first]))


async def test_sentinels_that_are_down_silent_or_lie_are_ignored(cluster: SentinelCluster) -> None:
    replica = next(server for server in cluster.servers if server is not cluster.master)
    (dead,) = free_ports(1, set())
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with (
            sentinel_that_answers(master_reply(replica.port)) as liar,
            sentinel_that_answers(master_reply(dead)) as outdated,
            sentinel_that_answers(b"*1\r\n$1\r\n?\r\n") as broken,
        ):
            bad = (dead, silent.getsockname()[1], liar, outdated, broken)
            only_bad = f"redis+sentinel://{LOGIN}@{','.join(f'127.0.0.1:{port}' for port in bad)}/mymaster/0"
            async with client_of(cluster, redis_url=only_bad) as client:
                with pytest.raises(RedisConnectionError, match="it is a replica, not the master"):
                    await client.set(KEY, "at a replica")

            url = with_sentinels(cluster, *bad)
            async with client_of(cluster, redis_url=url, redis_timeout_seconds=60) as client:
                began = time.monotonic()
                await client.set(KEY, "with liars")
                assert time.monotonic() - began < 30  # the silent one would take all of the 60 s
    with contextlib.closing(cluster.admin(cluster.master)) as admin:
        assert admin.get(KEY) == b"with liars"


async def test_the_search_for_a_master_ends_within_the_timeout(cluster: SentinelCluster) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis+sentinel://user:word@127.0.0.1:{silent.getsockname()[1]}/mymaster/0"
        async with client_of(cluster, redis_url=url, redis_timeout_seconds=0.5) as client:
            began = time.monotonic()
            with pytest.raises(RedisConnectionError, match="No Sentinel names a master"):
                await client.ping()
            assert time.monotonic() - began < 30


# TLS


async def test_redis_and_sentinels_are_reached_by_tls_with_a_certificate_authority_of_ones_own(tmp_path: Path) -> None:
    ports = free_ports(12, set())
    public = dict(zip(ports[:6], ports[6:], strict=True))
    (tmp_path / "tls").mkdir()
    authority, context = certificate_for("redis.example", tmp_path / "tls")
    with tls_fronts(public, context), running_cluster(tmp_path, ports=tuple(ports[:6]), public_ports=public) as cluster:
        url = cluster.url_of("launcher", scheme="rediss+sentinel", query=f"?ssl_ca_certs={authority}")
        async with connect(settings(cluster, redis_url=url), connections=3) as client:
            await asyncio.gather(*(client.set(KEY, number) for number in range(20)))
            assert client.connection_pool.get_available_connection().host == "127.0.0.1"
        strangers = cluster.url_of("launcher", scheme="rediss+sentinel")
        async with client_of(cluster, redis_url=strangers) as client:
            with pytest.raises(RedisConnectionError, match="certificate verify failed"):
                await client.ping()


# Failover


def ports_of(client: Redis) -> set[int]:
    """Return the ports of the servers that a client's idle connections are open to."""
    return {one.port for one in client.connection_pool._available_connections if one.is_connected}


async def after_failover(cluster: SentinelCluster, fault: Callable[[], None]) -> None:
    """Let writes go on through a fault of the master; check that they go to the new one, and connections with them."""
    before = cluster.master
    async with connect(settings(cluster), connections=4) as client:
        await asyncio.gather(*(client.set(KEY, number) for number in range(20)))
        fault()
        began = time.monotonic()
        await asyncio.gather(*(written(client, f"after {number}") for number in range(20)))
        print(f"writes go on after {time.monotonic() - began:.1f} s")
        after = cluster.until_moved(before)
        with contextlib.closing(cluster.admin(after)) as admin:
            assert admin.get(KEY).decode().startswith("after ")
        assert ports_of(client) == {after.port}


async def test_a_killed_master_is_followed_by_the_next_one(cluster: SentinelCluster) -> None:
    master = cluster.master
    await after_failover(cluster, master.kill)
    master.start()
    await until(cluster.is_complete, "the killed server as a replica")


async def test_a_stopped_master_is_followed_by_the_next_one_and_no_connection_goes_back(
    cluster: SentinelCluster,
) -> None:
    master = cluster.master
    await after_failover(cluster, master.pause)
    master.resume()
    async with client_of(cluster) as client:
        await written(client, "after its return")
    await until(cluster.is_complete, "the stopped server as a replica")
    with contextlib.closing(cluster.admin(cluster.master)) as admin:
        assert admin.get(KEY) == b"after its return"


async def test_a_master_that_became_a_replica_is_left_at_its_first_refusal(cluster: SentinelCluster) -> None:
    async with connect(settings(cluster), connections=4) as client:
        await asyncio.gather(*(client.set(KEY, number) for number in range(20)))
        after = cluster.fail_over()
        await written(client, "after")
        assert ports_of(client) == {after.port}  # also those that were idle
        with contextlib.closing(cluster.admin(after)) as admin:
            assert admin.get(KEY) == b"after"
    await until(cluster.is_complete, "two replicas")


async def test_a_subscription_follows_the_failover_of_a_stopped_master(cluster: SentinelCluster) -> None:
    before = cluster.master
    heard: list[bytes] = []
    # A gateway, whose rights it shares with others that follow launches.
    async with open_context(settings(cluster, redis_url=cluster.url_of("gateway"))) as context:
        channel = Keys("bindery:default").news(Topic(Kind.LAUNCH, "a"))
        await context.bus.listen(channel, heard.append)
        await context.redis.publish(channel, "before")
        await until(lambda: b"before" in heard)
        before.pause()
        try:
            after = cluster.until_moved(before)

            async def is_heard() -> bool:
                with contextlib.suppress(Exception):
                    await context.redis.publish(channel, "after")
                return b"after" in heard

            await until(is_heard, seconds=FAILOVER_SECONDS)
        finally:
            before.resume()
        assert cluster.master is after
    await until(cluster.is_complete, "two replicas")


async def test_nothing_that_replicas_sentinels_or_services_need_was_refused(cluster: SentinelCluster) -> None:
    """After all failovers: the users that docs/redis.md lists have the rights that they need."""
    for server in cluster.servers:
        with contextlib.closing(cluster.admin(server)) as admin:
            refused = {(entry["username"], entry["object"]) for entry in admin.acl_log()}
        assert refused <= {("bindery-gateway", "bindery:default:{queue}:jobs"), ("bindery-launcher", "AUTH")}, refused
