"""The launcher's client and a real JupyterHub: what it answers, the client understands."""

# ruff: noqa: F811 -- pytest finds fixtures by the names of arguments

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from services.common.models.errors import BinderyError
from services.launcher.hub import client as launcher_hub
from services.launcher.hub.client import Hub
from services.launcher.hub.failure_patterns import Diagnosis
from services.launcher.names import user_name
from services.launcher.settings import LauncherSettings
from tests.support.hub_fixtures import environment, hub, nothing_is_left  # noqa: F401
from tests.support.ports import free_ports
from tests.support.quick_jupyter import quick_jupyter_wheel
from tests.support.real_hub import HubStack, make_environment, make_image
from tests.support.settings import settings_for

PATHS = (
    "my repo/with spaces", "quoted%20twice/%2520", "100%/sure", "it's/\"quoted\"", "round(brackets)/[square]{curly}",
    "Übungen/日本語", "a_b.c~d/-e-", "semi;colon/at@me+more=!*,&$", "%/.git",
)  # fmt: skip
"""Paths of repositories whose characters hubs, proxies and servers each quote in their own way."""


@pytest.fixture
async def client(hub: HubStack) -> AsyncIterator[Hub]:
    settings = settings_for(
        LauncherSettings, {"hub_api_url": f"{hub.api}/", "hub_api_token": hub.launcher_token, "hub_url": hub.url}
    )
    client = Hub(settings)
    yield client
    await client.aclose()


async def test_a_start_that_fails_at_once_is_the_authors_and_tells_its_output(
    hub: HubStack, environment: Path, client: Hub
) -> None:
    make_image(hub.data, "fails-at-once", environment, start="#!/bin/sh\necho this is why\nexit 1\n")
    await client.create_user("abe")
    with pytest.raises(BinderyError) as raised:  # noqa: PT012 -- by the answer, or by the stream that follows
        await client.start_server("abe", "", {"image": "fails-at-once", "token": "x"})
        async for progress in client.progress("abe", ""):
            if progress.failed:
                raise Diagnosis().failure(progress.message)
    assert raised.value.code == "server_start_failed"
    assert "ended with exit status 1" in raised.value.detail
    assert "this is why" in raised.value.detail


async def test_its_listing_is_followed_from_page_to_page(client: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher_hub, "PAGE_SIZE", 2)
    names = {f"user-{number}" for number in range(5)}
    for name in names:
        await client.create_user(name)
    assert {server_model.user for server_model in await client.list_servers()} == names


async def test_a_server_of_any_repositorys_path_is_reached_through_the_proxy(
    hub: HubStack, client: Hub, tmp_path: Path
) -> None:
    quick = make_environment(tmp_path / "quick", str(quick_jupyter_wheel(tmp_path)))
    make_image(hub.data, "quick", quick)

    async def answer_of_server(path: str) -> httpx.Response:
        user = user_name("the secret of this installation", f"https://example.org/{path}", path)
        await client.create_user(user)
        await client.start_server(user, "", {"image": "quick", "token": "its-token"})
        assert [event.ready async for event in client.progress(user, "")][-1]
        async with httpx.AsyncClient(trust_env=False) as browser:
            return await browser.get(f"{client.server_url(user, '')}api/status?token=its-token")

    answers = await asyncio.gather(*map(answer_of_server, PATHS))
    assert {path: answer.status_code for path, answer in zip(PATHS, answers, strict=True)} == dict.fromkeys(PATHS, 200)


async def test_health_says_which_setting_leads_to_no_hub_or_has_a_wrong_token(hub: HubStack, client: Hub) -> None:
    assert await client.check_api() is None
    (port,) = free_ports(1, set())
    for wrong, start, end in (
        (
            {"hub_api_token": "another"},
            "JupyterHub does not accept our token: it answered 403",
            "Set BINDERY_HUB_API_TOKEN to the api_token that the hub's configuration gives the launcher's service "
            "(docs/hubs.md).",
        ),
        (
            {"hub_api_url": f"http://127.0.0.1:{port}/hub/api/"},
            f"JupyterHub does not work at http://127.0.0.1:{port}/hub/api/: no answer (",
            "Start it, or name it in BINDERY_HUB_API_URL.",
        ),
        (
            {"hub_api_url": f"{hub.api}/none/"},
            "JupyterHub refused: it answered 404",
            f"See that BINDERY_HUB_API_URL ({hub.api}/none/) is the address of its API.",
        ),
    ):
        values = {"hub_api_url": f"{hub.api}/", "hub_api_token": hub.launcher_token, "hub_url": hub.url} | wrong
        other = Hub(settings_for(LauncherSettings, values))
        problem = await other.check_api()
        await other.aclose()
        assert problem
        assert problem.startswith(start)
        assert problem.endswith(end)


@pytest.mark.parametrize("setting", ["hub_url", "hub_proxy_url"])
async def test_health_says_which_setting_leads_to_no_proxy(hub: HubStack, client: Hub, setting: str) -> None:
    assert await client.check_proxy() is None
    (port,) = free_ports(1, set())
    other = Hub(settings_for(LauncherSettings, {setting: f"http://127.0.0.1:{port}/"}))
    problem = await other.check_proxy()
    await other.aclose()
    assert problem
    assert problem.startswith(f"JupyterHub's proxy does not answer at http://127.0.0.1:{port}/ (")
    assert problem.endswith(f"Start the proxy, or name it in BINDERY_{setting.upper()}.")
