"""Redis as `up` starts it: the real server, with a password, keeping what it was told."""

import asyncio
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError

from deploy.local.health import redis_health
from deploy.local.redis import REDIS_CONFIG, redis_command, redis_url
from deploy.local.sockets import open_socket_folder, remove_socket_folders, socket_folder
from deploy.redis.users import USERS, users_file
from tests.support.paths import CHECKOUT

PASSWORD = "0123456789abcdef"
FILE = users_file("bindery:test", dict.fromkeys(USERS, PASSWORD))


@contextmanager
def redis(data_dir: Path, socket: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(redis_command(data_dir, socket, FILE), stdout=subprocess.DEVNULL)
    try:
        asyncio.run(until_healthy(socket))
        yield process
    finally:
        process.kill()
        process.wait()


async def until_healthy(socket: Path) -> None:
    health = redis_health(socket, PASSWORD, timeout_seconds=1.0)
    tick = threading.Event()
    async with asyncio.timeout(20):
        while await health():
            await asyncio.to_thread(tick.wait, 0.01)


@pytest.fixture
def socket(tmp_path: Path) -> Iterator[Path]:
    folder = socket_folder(tmp_path, {})
    open_socket_folder(folder)
    yield folder / "redis.sock"
    remove_socket_folders(tmp_path, {})


def test_has_the_settings_that_the_docs_advise() -> None:
    page = (CHECKOUT / "docs" / "redis.md").read_text()
    (advised,) = re.findall(r"# valkey.conf\n(.*?)# Replication\n", page, re.DOTALL)
    of_addresses = ("port ", "aclfile ", "dir ", "tcp-keepalive ")
    assert {line for line in advised.splitlines() if not line.startswith(of_addresses)} <= {*REDIS_CONFIG.splitlines()}


def test_asks_for_the_password_and_keeps_it_out_of_the_command(tmp_path: Path, socket: Path) -> None:
    assert PASSWORD not in " ".join(redis_command(tmp_path, socket, FILE))
    assert (tmp_path / "redis" / "valkey.conf").stat().st_mode & 0o777 == 0o600
    with redis(tmp_path, socket):
        with Redis.from_url(redis_url(socket, "admin", "another")) as stranger, pytest.raises(AuthenticationError):
            stranger.ping()
        assert asyncio.run(redis_health(socket, "another", 1.0)()) is not None
        with Redis.from_url(redis_url(socket, "admin", PASSWORD)) as client:
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            assert client.config_get("appendfsync") == {"appendfsync": "everysec"}


def test_each_user_comes_in_by_its_own_name_and_nobody_without_one(tmp_path: Path, socket: Path) -> None:
    assert PASSWORD not in FILE
    with redis(tmp_path, socket):
        for user in USERS:
            with Redis.from_url(redis_url(socket, user, PASSWORD)) as client:
                assert client.ping()
        with Redis(unix_socket_path=str(socket), password=PASSWORD) as nobody, pytest.raises(AuthenticationError):
            nobody.ping()
        with Redis(unix_socket_path=str(socket)) as nobody, pytest.raises(AuthenticationError):
            nobody.ping()
    assert (tmp_path / "redis" / "users.acl").stat().st_mode & 0o777 == 0o600


def test_listens_at_no_port_and_at_a_socket_for_its_own_user_alone(tmp_path: Path, socket: Path) -> None:
    with redis(tmp_path, socket), Redis.from_url(redis_url(socket, "admin", PASSWORD)) as client:
        assert client.config_get("port") == {"port": "0"}
        assert socket.stat().st_mode & 0o777 == 0o600


def test_replaces_the_socket_of_one_that_was_killed(tmp_path: Path, socket: Path) -> None:
    for _ in range(2):
        with redis(tmp_path, socket), Redis.from_url(redis_url(socket, "admin", PASSWORD)) as client:
            assert client.ping()
        assert socket.is_socket()


def test_keeps_its_data_over_a_kill_and_in_a_folder_with_an_odd_name(tmp_path: Path, socket: Path) -> None:
    folder = tmp_path / 'a "quoted" földer'
    folder.mkdir()
    with redis(folder, socket) as process, Redis.from_url(redis_url(socket, "admin", PASSWORD)) as client:
        client.set("launch", "kept")
        process.kill()
    with redis(folder, socket), Redis.from_url(redis_url(socket, "admin", PASSWORD)) as client:
        assert client.get("launch") == b"kept"


def test_one_that_does_not_listen_is_not_healthy(socket: Path) -> None:
    assert "FileNotFoundError" in str(asyncio.run(redis_health(socket, PASSWORD, 1.0)()))
