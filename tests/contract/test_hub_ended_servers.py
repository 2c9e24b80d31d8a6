"""A real hub and its proxy: whoever asks for a server that has ended gets the gateway's answer, and never the hub's."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from services.gateway.pages.ended_servers import EndedServers
from services.gateway.pages.renderer import Pages
from services.gateway.settings import GatewaySettings
from services.launcher.hub.client import Hub
from services.launcher.settings import LauncherSettings
from tests.support.hub_fixtures import is_gone, nothing_is_left, record_of  # noqa: F401
from tests.support.polling import eventually
from tests.support.quick_jupyter import quick_jupyter_wheel
from tests.support.real_hub import HubStack, make_environment, make_image
from tests.support.serving import serving
from tests.support.settings import settings_for

PAGE = {"accept": "text/html"}


async def _elsewhere(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 418, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubStack]:
    folder = tmp_path_factory.mktemp("hub")
    gateway = Pages(settings_for(GatewaySettings, {"installation_secret": "s", "public_url": "http://b.example"}))
    with serving(EndedServers(_elsewhere, gateway)) as server:
        stack = HubStack(
            folder / "stack",
            BINDERY_ENDED_SERVERS_URL=f"http://127.0.0.1:{server.port}/ended",
            BINDERY_SERVER_POLL_SECONDS="600",  # a server that dies keeps its route
        )
        quick = make_environment(folder / "quick", str(quick_jupyter_wheel(folder)))
        make_image(stack.data, "quick", quick)
        try:
            stack.start()
            yield stack
        finally:
            stack.stop()


def _route_problem(hub: HubStack, user: str) -> str | None:
    """Return what the launcher finds wrong with the route of a user's server."""
    base = {"hub_api_url": f"{hub.api}/", "hub_api_token": hub.launcher_token, "hub_url": hub.url}

    async def ask() -> str | None:
        async with contextlib.aclosing(Hub(settings_for(LauncherSettings, base))) as client:
            assert await client.check_proxy() is None
            return await client.route_problem(user, "")

    return asyncio.run(ask())


def test_a_server_is_reached_until_it_is_stopped_and_then_has_ended(hub: HubStack) -> None:
    hub.serve("ann", "quick")
    url = f"{hub.url}/user/ann/"
    assert httpx.get(f"{url}api/status?token=token-of-ann").status_code == 200
    assert _route_problem(hub, "ann") is None

    assert hub.call("DELETE", "users/ann/server").status_code in (202, 204)
    eventually(partial(is_gone, hub, "ann"), "the server is gone")
    eventually(lambda: "This server has ended" in httpx.get(url, headers=PAGE).text, "its route is gone, too")
    for path in ("", "lab/tree/a.ipynb?token=token-of-ann", "api/kernels"):
        page = httpx.get(url + path, headers=PAGE)
        assert (page.status_code, "This server has ended" in page.text) == (424, True)
        assert httpx.post(url + path).json()["code"] == "server_ended"
    assert _route_problem(hub, "ann") == "it answered 424"


def test_a_server_that_died_does_not_answer(hub: HubStack) -> None:
    hub.serve("bob", "quick")
    os.kill(record_of(hub, "bob").pid, signal.SIGKILL)
    page = eventually(lambda: _unless_up(f"{hub.url}/user/bob/lab"), "its port is closed")
    assert (page.status_code, "This server does not answer" in page.text) == (424, True)
    assert _route_problem(hub, "bob") == "it answered 424"


def _unless_up(url: str) -> httpx.Response | None:
    reply = httpx.get(url, headers=PAGE, follow_redirects=True)
    return reply if reply.status_code == 424 else None


@pytest.mark.parametrize("path", ["/", "/hub", "/hub/", "/hub/login", "/hub/home", "/hub/user/ann/", "/services/x/"])
def test_no_page_of_the_hub_is_open_to_browsers(hub: HubStack, path: str) -> None:
    assert httpx.get(hub.url + path, headers=PAGE).status_code == 424
    assert httpx.get(f"{hub.url}/hub/api/users").status_code == 403


def test_a_hub_that_is_started_again_leads_to_the_same_servers(hub: HubStack) -> None:
    hub.serve("cleo", "quick")
    hub.kill_hub()
    status = partial(httpx.get, f"{hub.url}/user/cleo/api/status?token=token-of-cleo")
    assert status().status_code == 200
    hub.start_hub()
    assert status().status_code == 200
    assert httpx.get(f"{hub.url}/user/gone/", headers=PAGE).status_code == 424


def test_a_hub_that_answers_for_ended_servers_itself_is_told_from_them(tmp_path: Path) -> None:
    stack = HubStack(tmp_path / "plain")
    try:
        stack.start()
        assert _route_problem(stack, "nobody") == "it answered 302"
    finally:
        stack.stop()
