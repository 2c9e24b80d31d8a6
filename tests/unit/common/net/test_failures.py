"""Why a request got no reply: aiohttp's failures of TLS and of names are failures to connect, too."""

import asyncio
import socket
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from services.common.net.http import PeerUnreachable, PooledClient
from tests.support.tls import certificate_for


async def reason_of(url: object) -> str:
    client = PooledClient(str(url), peer="test", read_seconds=0.1)
    with pytest.raises(PeerUnreachable) as raised:
        await client.request("GET", "/")
    await client.aclose()
    return str(raised.value)


async def test_a_certificate_that_is_not_trusted_is_told_with_the_reason(tmp_path: Path) -> None:
    _, context = certificate_for("localhost", tmp_path)
    server = TestServer(web.Application(), host="localhost", scheme="https")
    await server.start_server(ssl=context)
    async with server:
        assert await reason_of(server.make_url("/")) == "its certificate is not trusted (self-signed certificate)"


async def test_a_peer_without_tls_is_no_peer_that_forbids_something() -> None:
    async with TestServer(web.Application()) as server:
        assert await reason_of(server.make_url("/").with_scheme("https")) == "it does not speak TLS as we do"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (socket.EAI_AGAIN, "its name can't be looked up at the moment"),
        (socket.EAI_NONAME, "its name is not known"),
    ],
)
async def test_names_that_can_not_be_looked_up_differ_from_those_that_do_not_exist(
    code: int, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(code, "failure")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    assert await reason_of("http://builder.example") == reason


async def test_a_peer_that_stays_silent_is_told_with_the_time() -> None:
    async def stay_silent(_: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    app = web.Application()
    app.router.add_get("/", stay_silent)
    async with TestServer(app) as server:
        assert await reason_of(server.make_url("/")) == "it sent nothing for 0.1 s"
