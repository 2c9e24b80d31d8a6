"""The launcher's client and a real JupyterHub: what it answers, the client understands."""

# ruff: noqa: F811 -- pytest finds fixtures by the names of arguments

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.common.errors import BinderyError
from services.launcher import hub as launcher_hub
from services.launcher.causes import Signs
from services.launcher.hub import Hub
from services.launcher.settings import LauncherSettings
from tests.support.hub import HubStack, make_image
from tests.support.hub_servers import environment, hub, nothing_is_left  # noqa: F401


@pytest.fixture
async def client(hub: HubStack) -> AsyncIterator[Hub]:
    settings = LauncherSettings.model_validate({"hub_api_url": f"{hub.api}/", "hub_api_token": hub.launcher_token})
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
                raise Signs().failure(progress.message)
    assert raised.value.code == "server_start_failed"
    assert "ended with exit status 1" in raised.value.detail
    assert "this is why" in raised.value.detail


async def test_its_listing_is_followed_from_page_to_page(client: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher_hub, "PAGE", 2)
    names = {f"user-{number}" for number in range(5)}
    for name in names:
        await client.create_user(name)
    assert {listed.user for listed in await client.listing()} == names
