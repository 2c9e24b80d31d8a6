"""A build without a launch passes the same checks as a launch: bans, hooks, and the chance of a seat."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from redis.asyncio import Redis

from services.common.models import Launch, ResolvedRepo
from services.common.models.errors import BinderyError
from services.common.web.problems import install_problem_handlers
from services.gateway.edge.middleware import Edge
from services.gateway.launches import pre_launch
from services.gateway.pages.renderer import Pages
from services.gateway.refusals import RefusalRenderer
from services.gateway.routes import builds
from services.gateway.settings import GatewaySettings
from tests.support.fake_gateway import fake_providers, gateway_context
from tests.support.in_process_gateway import FakeBackends, Gateway, open_gateway
from tests.support.in_process_launcher import REPO
from tests.support.valkey import Valkey

BUILD_REQUEST = {"provider": "git", "spec": "x/a"}


@dataclass
class Hook:
    """An operator's hook, installed as an entry point."""

    refuses: bool = False
    name = "rules"

    def __post_init__(self) -> None:
        self.launches: list[Launch] = []

    def load(self) -> object:
        return self

    async def __call__(self, launch: Launch, repo: ResolvedRepo) -> None:
        self.launches.append(launch)
        if self.refuses:
            raise BinderyError("banned", f"Not today: {repo.display_name}.")


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Any:
    rules = Hook()
    monkeypatch.setattr(pre_launch, "entry_points", lambda group: [rules])
    pre_launch.load_hooks.cache_clear()
    yield rules
    pre_launch.load_hooks.cache_clear()


@pytest.fixture
async def gateway(valkey: Valkey, redis: Redis) -> AsyncIterator[Gateway]:
    async with open_gateway(valkey) as opened:
        yield opened


@pytest.fixture
def backends(gateway: Gateway) -> FakeBackends:
    return gateway.backends


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    app.include_router(builds.router)
    install_problem_handlers(app)
    settings = GatewaySettings()
    app.state.context = gateway_context(
        settings, common=gateway.context, backends=gateway.backends, providers=fake_providers()
    )
    app.add_middleware(Edge, settings=settings, refusals=RefusalRenderer(Pages(settings)))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://bindery.example") as opened:
        yield opened


async def test_a_hook_sees_it_as_a_launch_of_a_build_only_before_anything_is_built(
    client: httpx.AsyncClient, backends: FakeBackends, hook: Hook
) -> None:
    reply = await client.post("/api/v1/builds", json=BUILD_REQUEST | {"rebuild": f"{'0' * 24}-7"})
    assert reply.status_code == 202
    [launch] = hook.launches
    assert launch.options.build_only
    assert str(launch.spec) == "git/x/a"
    assert (launch.client_ip, launch.launch_host) == ("127.0.0.1", "http://bindery.example/")
    assert launch.principal.startswith("anon:")
    assert backends.requests[0].replaces == launch.options.rebuild == f"{'0' * 24}-7"


async def test_a_launch_that_a_hook_refuses_is_not_built_and_shows_the_hooks_sentence(
    client: httpx.AsyncClient, backends: FakeBackends, hook: Hook
) -> None:
    hook.refuses = True
    reply = await client.post("/api/v1/builds", json=BUILD_REQUEST)
    assert (reply.status_code, reply.json()["code"]) == (403, "banned")
    assert reply.json()["detail"] == f"Not today: {REPO.display_name}."
    assert backends.calls == ["resolve"]


async def test_a_banned_repository_is_not_shown_to_a_hook_and_not_built(
    client: httpx.AsyncClient, backends: FakeBackends, hook: Hook
) -> None:
    backends.raises["resolve"] = BinderyError("banned", "Sorry, git/x/a is not allowed to launch here.")
    reply = await client.post("/api/v1/builds", json=BUILD_REQUEST)
    assert reply.json()["detail"] == "Sorry, git/x/a is not allowed to launch here."
    assert (hook.launches, backends.calls) == ([], ["resolve"])


async def test_nothing_is_built_that_no_server_could_be_started_of(
    client: httpx.AsyncClient, backends: FakeBackends
) -> None:
    backends.no_seat = BinderyError("quota_exceeded", "No new servers are started here at the moment.")
    reply = await client.post("/api/v1/builds", json=BUILD_REQUEST)
    assert (reply.status_code, reply.json()["code"]) == (503, "quota_exceeded")
    assert reply.json()["detail"] == "No new servers are started here at the moment."
    assert backends.calls == ["resolve"]


async def test_who_asks_is_known_again_by_session_or_key_and_stands_in_no_record_as_that(
    client: httpx.AsyncClient, backends: FakeBackends
) -> None:
    mine = {"Idempotency-Key": "a" * 22}
    other = {"Cookie": f"bindery_session={'b' * 32}"}
    stored: list[str] = []
    for headers in (mine, other, mine, other, {}, {}):
        assert (await client.post("/api/v1/builds", json=BUILD_REQUEST, headers=headers)).status_code == 202
        stored.append(backends.requests[-1].asker or "")
    assert stored[:2] == stored[2:4]
    assert len({*stored}) == 4, "who sends neither is nobody who could come back"
    assert not any(secret in asker for asker in stored for secret in ("a" * 22, "b" * 32, "anon:"))


async def test_a_cancel_says_who_asks(client: httpx.AsyncClient, backends: FakeBackends) -> None:
    mine = {"Idempotency-Key": "a" * 22}
    await client.post("/api/v1/builds", json=BUILD_REQUEST, headers=mine)
    build_id = f"{'0' * 24}-1"
    assert (await client.delete(f"/api/v1/builds/{build_id}", headers=mine)).status_code == 204
    assert backends.cancellations == [(build_id, backends.requests[0].asker)]
