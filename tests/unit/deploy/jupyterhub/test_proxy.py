"""The hub's proxy: the real traefik leads to servers, and to the gateway's answer for those that have ended."""

import asyncio
import contextlib
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from http import HTTPStatus
from pathlib import Path

import bcrypt
import httpx
import pytest
from starlette.types import Receive, Scope, Send
from traitlets import TraitError
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import InvalidStatus
from websockets.http11 import Request, Response

from deploy.jupyterhub.proxy import BinderyTraefikProxy
from deploy.local.proxy import proxy_command, rules_file
from services.gateway.pages.ended_servers import EndedServers
from services.gateway.pages.renderer import Pages
from services.gateway.settings import GatewaySettings
from tests.support.ports import free_ports
from tests.support.serving import serving
from tests.support.settings import settings_for

pytestmark = pytest.mark.slow

PASSWORD = "of-the-proxy"
HOME = "https://bindery.example/"
PAGE = {"accept": "text/html"}


async def _elsewhere(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 418, "headers": []})
    await send({"type": "http.response.body", "body": b"not the answer for ended servers"})


class Proxy:
    """Traefik in a folder of its own; the hub's part of it can be started again, with other settings."""

    def __init__(self, folder: Path, ended_url: str) -> None:
        self.folder = folder
        self.ended_url = ended_url
        self.port, self.api_port = free_ports(2, avoid=set())
        self.command = proxy_command(folder, self.port, self.api_port)
        self.url = f"http://127.0.0.1:{self.port}"

    def start_hub(self, **settings: object) -> None:
        """Start the hub's part."""
        values = {"ended_url": self.ended_url, "connect_seconds": 3.0} | settings
        self.hub = BinderyTraefikProxy(
            should_start=False,
            public_url=f"{self.url}/",
            dynamic_config_file=str(rules_file(self.folder)),
            traefik_api_url=f"http://127.0.0.1:{self.api_port}",
            traefik_api_username="hub",
            traefik_api_password=PASSWORD,
            traefik_api_hashed_password=bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode(),
            **values,
        )

    async def lead(self, user: str, port: int) -> str:
        """Lead to a user's server, and return its address."""
        await self.hub.add_route(f"/user/{user}/", f"http://127.0.0.1:{port}", {"user": user, "server_name": ""})
        return f"{self.url}/user/{user}/"

    async def get(self, url: str, **headers: str) -> httpx.Response:
        """Ask for a page, through the proxy."""
        async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
            return await client.get(url, headers=headers)


@pytest.fixture(scope="module")
def gateway() -> Iterator[str]:
    """The gateway's answer at its address."""
    settings = settings_for(GatewaySettings, {"installation_secret": "s3cret", "public_url": HOME})
    with serving(EndedServers(_elsewhere, Pages(settings))) as server:
        yield f"http://127.0.0.1:{server.port}/ended"


@pytest.fixture
async def proxy(tmp_path: Path, gateway: str) -> AsyncIterator[Proxy]:
    proxy = Proxy(tmp_path, gateway)
    process = subprocess.Popen(proxy.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: ASYNC220
    try:
        proxy.start_hub()
        yield proxy
    finally:
        process.kill()
        process.wait()


@contextlib.asynccontextmanager
async def users_server() -> AsyncIterator[int]:
    """Serve a status at `/status/<number>`, and whatever a websocket sends elsewhere; yield the port."""

    def respond(connection: ServerConnection, request: Request) -> Response | None:
        _, found, status = request.path.partition("/status/")
        return connection.respond(HTTPStatus(int(status)), "the server's own words") if found else None

    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async with serve(echo, "127.0.0.1", 0, process_request=respond) as server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that connections are not made to, and not refused by: its queue is full."""
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(2):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        yield full.getsockname()[1]


@pytest.mark.parametrize("path", ["/user/gone/lab/tree/a%2Fb?token=T", "/user/gone", "/", "/static/x", "/hub/login"])
async def test_whatever_has_no_route_gets_the_gateways_answer(proxy: Proxy, path: str) -> None:
    async with users_server() as port:
        url = await proxy.lead("ann", port)
        assert (await proxy.get(f"{url}status/200")).text == "the server's own words"
    page = await proxy.get(proxy.url + path, **PAGE)
    assert (page.status_code, "This server has ended" in page.text, f'href="{HOME}"' in page.text) == (424, True, True)
    async with httpx.AsyncClient(trust_env=False) as client:
        reply = await client.post(proxy.url + path, json={"name": "python3"}, headers={"origin": "https://a.example"})
    assert (reply.status_code, reply.json()["code"]) == (424, "server_ended")
    assert reply.headers["access-control-allow-origin"] == "*"


async def test_the_page_of_a_server_that_was_removed_is_the_gateways(proxy: Proxy) -> None:
    async with users_server() as port:
        url = await proxy.lead("ann", port)
        await proxy.hub.delete_route("/user/ann/")
        await proxy.lead("bob", port)  # traefik has read the rules once this route is there
        assert (await proxy.get(f"{url}status/200")).json()["code"] == "server_ended"


async def test_a_websocket_of_an_ended_server_is_refused_with_the_same_status(proxy: Proxy) -> None:
    async with users_server() as port:
        url = await proxy.lead("ann", port)
    for address in (f"{url}api/events", f"{proxy.url}/user/gone/api/events"):
        with pytest.raises(InvalidStatus) as refused:
            async with connect(address.replace("http", "ws", 1)):
                pass
        assert refused.value.response.status_code == 424


async def test_a_server_that_is_gone_although_its_route_is_there_does_not_answer(proxy: Proxy) -> None:
    url = await proxy.lead("ann", free_ports(1, avoid=set())[0])
    page = await proxy.get(f"{url}lab", **PAGE)
    assert (page.status_code, "This server does not answer" in page.text) == (424, True)
    problem = await proxy.get(f"{url}api/kernels", origin="https://a.example")
    assert (problem.status_code, problem.json()["code"]) == (424, "server_ended")
    assert problem.headers["access-control-allow-origin"] == "*"


async def test_a_preflight_passes_unless_the_server_still_has_a_route(proxy: Proxy) -> None:
    """Traefik asks for its page of an error with GET and one status for all: docs/hubs.md says so."""
    dead = await proxy.lead("ann", free_ports(1, avoid=set())[0])
    asks = {"origin": "https://a.example", "access-control-request-method": "PUT"}
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.options(f"{proxy.url}/user/gone/api/kernels", headers=asks)).status_code == 204
        assert (await client.options(f"{dead}api/kernels", headers=asks)).status_code == 424


async def test_a_server_that_takes_no_connection_is_waited_for_no_longer_than_the_setting_says(
    proxy: Proxy, silent_port: int
) -> None:
    proxy.start_hub(connect_seconds=0.2)
    url = await proxy.lead("ann", silent_port)
    assert (await proxy.get(f"{url}lab", **PAGE)).status_code == 424


@pytest.mark.parametrize("status", [404, 424, 500, 503])
async def test_what_a_server_says_itself_is_passed_on(proxy: Proxy, status: int) -> None:
    async with users_server() as port:
        url = await proxy.lead("ann", port)
        reply = await proxy.get(f"{url}status/{status}", **PAGE)
    assert (reply.status_code, reply.text) == (status, "the server's own words")


async def test_a_servers_own_502_is_taken_for_the_proxys(proxy: Proxy) -> None:
    """Traefik can't tell one from the other: docs/hubs.md says so."""
    async with users_server() as port:
        url = await proxy.lead("ann", port)
        assert (await proxy.get(f"{url}status/502")).json()["code"] == "server_ended"


async def test_websockets_pass(proxy: Proxy) -> None:
    async with users_server() as port:
        url = await proxy.lead("ann", port)
        async with connect(f"{url}api/events".replace("http", "ws", 1)) as websocket:
            await websocket.send("hello")
            assert await websocket.recv() == "hello"


async def test_a_stream_passes_piece_by_piece(proxy: Proxy) -> None:
    more = asyncio.Event()

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\ndata: 1\n\n")
        await more.wait()
        writer.write(b"data: 2\n\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = await proxy.lead("ann", server.sockets[0].getsockname()[1])
        async with httpx.AsyncClient(trust_env=False) as client, client.stream("GET", f"{url}events") as stream:
            pieces = stream.aiter_text()
            assert await anext(pieces) == "data: 1\n\n"
            more.set()
            assert await anext(pieces) == "data: 2\n\n"


async def test_a_hub_with_other_settings_renews_the_rules_that_it_finds(proxy: Proxy) -> None:
    async with users_server() as port:
        url = await proxy.lead("ann", port)
        proxy.start_hub(ended_url="")
        await proxy.lead("bob", port)
        assert (await proxy.get(f"{url}status/502")).text == "the server's own words"
        assert (await proxy.get(f"{proxy.url}/user/gone/")).status_code == 404

        proxy.start_hub()
        await proxy.lead("eve", port)
        assert (await proxy.get(f"{url}status/502")).status_code == 424
        assert (await proxy.get(f"{proxy.url}/user/gone/")).status_code == 424


@pytest.mark.parametrize("url", ["gateway:8585/ended", "ftp://gateway/ended", "http://gateway:8585", "http:///ended"])
def test_an_address_that_is_none_ends_the_hubs_start(url: str) -> None:
    with pytest.raises(TraitError, match="write http://host:port/path"):
        BinderyTraefikProxy(should_start=True, ended_url=url)
