"""Redis as `up` starts it: the real server, with a password, keeping what it was told."""

import asyncio
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError

from deploy.local.health import redis_health
from deploy.local.ports import free_ports
from deploy.local.redis import redis_command, redis_url

PASSWORD = "0123456789abcdef"


@contextmanager
def redis(data_dir: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(redis_command(data_dir, port, PASSWORD), stdout=subprocess.DEVNULL)
    try:
        asyncio.run(until_healthy(port))
        yield process
    finally:
        process.kill()
        process.wait()


async def until_healthy(port: int) -> None:
    health = redis_health(port, PASSWORD, timeout_seconds=1.0)
    tick = threading.Event()
    async with asyncio.timeout(20):
        while await health():
            await asyncio.to_thread(tick.wait, 0.01)


@pytest.fixture
def port() -> int:
    return free_ports(1, avoid=set())[0]


def test_asks_for_the_password_and_keeps_it_out_of_the_command(tmp_path: Path, port: int) -> None:
    assert PASSWORD not in " ".join(redis_command(tmp_path, port, PASSWORD))
    assert (tmp_path / "redis" / "valkey.conf").stat().st_mode & 0o777 == 0o600
    with redis(tmp_path, port):
        with Redis.from_url(redis_url(port, "another")) as stranger, pytest.raises(AuthenticationError):
            stranger.ping()
        assert asyncio.run(redis_health(port, "another", 1.0)()) is not None
        with Redis.from_url(redis_url(port, PASSWORD)) as client:
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            assert client.config_get("appendfsync") == {"appendfsync": "everysec"}


def test_keeps_its_data_over_a_kill_and_in_a_folder_with_an_odd_name(tmp_path: Path, port: int) -> None:
    folder = tmp_path / 'a "quoted" földer'
    folder.mkdir()
    with redis(folder, port) as process, Redis.from_url(redis_url(port, PASSWORD)) as client:
        client.set("launch", "kept")
        process.kill()
    with redis(folder, port), Redis.from_url(redis_url(port, PASSWORD)) as client:
        assert client.get("launch") == b"kept"


def test_one_that_does_not_listen_is_not_healthy(port: int) -> None:
    assert "ConnectionRefusedError" in str(asyncio.run(redis_health(port, PASSWORD, 1.0)()))
