"""Where services listen: real sockets, real services, and our own client at the other end."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from services.common.net.http import PeerUnreachable, PooledClient, unix_socket
from services.common.web.listening import bind_tcp, bind_unix
from services.gateway.settings import GatewaySettings

SERVICE = """
import sys
from contextlib import asynccontextmanager
from fastapi import FastAPI
from services.common.web.serve import serve
from services.common.service.settings import ServiceSettings

@asynccontextmanager
async def lifespan(app):
    yield
    print("ended", flush=True)

app = FastAPI(lifespan=lifespan)

@app.get("/who")
async def who() -> str:
    return "me"

serve(app, ServiceSettings(), service="test")
"""


@contextmanager
def service(**environ: str) -> Iterator[subprocess.Popen[str]]:
    """A service of ours, as `python -m services.<name>` is one."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("BINDERY_")} | environ
    process = subprocess.Popen([sys.executable, "-c", SERVICE], env=environ, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        assert process.stdout is not None
        process.stdout.close()


def until_answered(path: Path) -> str:
    """What the service says, once it listens."""
    tick = threading.Event()
    for _ in range(2000):
        try:
            with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as client:
                return str(client.get("http://service/who").json())
        except httpx.ConnectError:
            tick.wait(0.01)
    raise AssertionError(f"nobody listens at {path}")


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("s")


@pytest.mark.slow
async def test_a_service_listens_at_its_socket_for_its_own_user_alone(short: Path) -> None:
    path = short / "a b%3F.sock"
    with service(BINDERY_LISTEN_SOCKET=str(path), BINDERY_LISTEN_PORT="1"):
        assert until_answered(path) == "me"
        assert path.stat().st_mode & 0o777 == 0o600
        client = PooledClient(f"unix://{quote(str(path))}", peer="test")
        assert (await client.request("GET", "/who")).json() == "me"
        async with client.stream("who") as reply:
            assert await reply.read() == b'"me"'
        await client.aclose()


async def test_an_unavailable_service_is_not_an_answer(short: Path) -> None:
    client = PooledClient(f"unix://{short}/away.sock", peer="test")
    with pytest.raises(PeerUnreachable, match="no such file or directory"):
        await client.request("GET", "/who")
    await client.aclose()


@pytest.mark.slow
def test_the_socket_of_one_that_was_killed_is_replaced(short: Path) -> None:
    path = short / "one.sock"
    with service(BINDERY_LISTEN_SOCKET=str(path)) as first:
        until_answered(path)
        first.kill()
        first.wait()
    with service(BINDERY_LISTEN_SOCKET=str(path)):
        assert until_answered(path) == "me"


def test_a_socket_that_another_process_listens_at_is_refused(short: Path) -> None:
    path = short / "one.sock"
    with bind_unix(path):
        before = path.stat().st_ino
        with pytest.raises(SystemExit) as raised:
            bind_unix(path)
        assert str(raised.value) == (
            f"Another process listens at {path}: end it, or set BINDERY_LISTEN_SOCKET to another path for this one."
        )
        assert path.stat().st_ino == before


def test_one_that_is_too_busy_to_take_connections_lives(short: Path) -> None:
    path = short / "busy.sock"
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(str(path))
        busy.listen(0)
        waiting = [socket.socket(socket.AF_UNIX) for _ in range(2)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(str(path))
        with pytest.raises(SystemExit, match="Another process listens"):
            bind_unix(path)
        for client in waiting:
            client.close()


def test_a_file_that_is_not_a_socket_is_not_removed(short: Path) -> None:
    path = short / "notes.txt"
    path.write_text("mine")
    with pytest.raises(SystemExit, match="is not a socket: remove it, or set BINDERY_LISTEN_SOCKET"):
        bind_unix(path)
    assert path.read_text() == "mine"


@pytest.mark.parametrize("place", ["x" * 120, "missing/one.sock"])
def test_a_path_where_no_socket_can_be_says_what_to_do(short: Path, place: str) -> None:
    with pytest.raises(SystemExit) as raised:
        bind_unix(short / place)
    assert "set BINDERY_LISTEN_SOCKET to a path of at most 103 bytes" in str(raised.value)


@pytest.mark.slow
def test_a_service_that_cannot_listen_reports_it_and_ends(short: Path) -> None:
    path = short / "taken.sock"
    environ = os.environ | {"BINDERY_LISTEN_SOCKET": str(path)}
    with bind_unix(path):
        result = subprocess.run(
            [sys.executable, "-c", SERVICE], env=environ, capture_output=True, text=True, check=False, timeout=60
        )
    assert (result.returncode, result.stderr.strip().splitlines()[-1][:40]) == (
        1,
        f"Another process listens at {path}"[:40],
    )


def test_a_unix_address_is_told_from_others() -> None:
    assert unix_socket("http://127.0.0.1:8611") == ""
    assert unix_socket("unix:///run/a%20b.sock") == "/run/a b.sock"


@pytest.mark.parametrize("url", ["unix://run/resolver.sock", "unix:/run/resolver.sock", "127.0.0.1:8611", ""])
def test_an_invalid_address_of_a_service_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"resolver_url\n.*(names no absolute path|is not an address)"):
        GatewaySettings(resolver_url=url)


def addresses(*hosts: str) -> Any:
    """What a name stands for, in the place of `socket.getaddrinfo`."""
    return lambda _host, port, **_others: [
        (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port)) for host in hosts
    ]


def test_an_address_that_this_machine_lacks_is_passed_over_if_it_has_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", addresses("192.0.2.1", "127.0.0.1"))
    (listener,) = bind_tcp("localhost", 0)
    with listener:
        assert listener.getsockname()[0] == "127.0.0.1"


def test_a_host_that_is_not_of_this_machine_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", addresses("192.0.2.1"))
    with pytest.raises(SystemExit, match=r"can't listen at other\.example\.org"):
        bind_tcp("other.example.org", 0)
