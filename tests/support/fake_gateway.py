"""The gateway's application before fake launches: for tests of pages, edge and scripts alone."""

import contextlib
import dataclasses
import re
from collections.abc import AsyncIterator
from typing import Any, cast

import httpx
from fastapi import FastAPI, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from services.common.models import GitCredential, RefQuestion, ResolvedRepo, Spec
from services.common.web.incoming import BoundedBodies, HeadRequests
from services.common.web.problems import install_problem_handlers
from services.gateway.backends import Backends, Providers
from services.gateway.context import GatewayContext
from services.gateway.edge.middleware import Edge
from services.gateway.edge.request_scope import refuse_cross_site
from services.gateway.edge.sessions import principal
from services.gateway.pages.ended_servers import EndedServers
from services.gateway.pages.error_pages import install_error_pages
from services.gateway.pages.renderer import Pages
from services.gateway.pages.static_assets import StaticAssets
from services.gateway.refusals import RefusalRenderer
from services.gateway.routes import links
from services.gateway.routes.pages import router
from services.gateway.settings import GatewaySettings
from tests.support.fake_launches import FakeLaunches
from tests.support.in_process_launcher import REPO
from tests.support.sample_providers import PROVIDERS
from tests.support.settings import settings_for

OWN = "http://127.0.0.1:8585"


class FakeBackends:
    """A resolver with a fixed list of providers, which says that every repository has the refs `existing`.

    With `failure`, it does not say which refs there are.
    """

    def __init__(self, *existing: str, failure: Exception | None = None) -> None:
        self.existing = existing
        self.failure = failure
        self.questions: list[RefQuestion] = []

    async def providers(self) -> list[dict[str, Any]]:
        return PROVIDERS

    async def resolve(self, spec: Spec, login: GitCredential | None = None) -> ResolvedRepo:
        if self.failure:
            raise self.failure
        return REPO.updated(provider=spec.provider, spec=spec.spec)

    async def existing_refs(self, question: RefQuestion) -> tuple[str, ...]:
        self.questions.append(question)
        if self.failure:
            raise self.failure
        return tuple(ref for ref in question.refs if ref in self.existing)


def fake_providers() -> Providers:
    """Return the real cache of providers, before a resolver with a fixed list."""
    return Providers(cast("Backends", FakeBackends()))


def gateway_context(settings: GatewaySettings, **parts: object) -> GatewayContext:
    """Return a gateway's context of which a test needs only some parts, which may be fakes."""
    names = [field.name for field in dataclasses.fields(GatewayContext)]
    values: dict[str, Any] = dict.fromkeys(names) | {"settings": settings} | parts
    return GatewayContext(**values)


def fake_gateway(launches: FakeLaunches, backends: FakeBackends | None = None, /, **settings: Any) -> FastAPI:
    """Return pages, edge and static assets as the gateway joins them, and as much of the API as scripts need."""
    edge_settings = settings_for(GatewaySettings, {"installation_secret": "s3cret", "local_mode": True} | settings)
    app = FastAPI()
    pages = Pages(edge_settings)
    app.state.context = gateway_context(
        edge_settings,
        launches=launches,
        backends=backends or FakeBackends(),
        providers=fake_providers(),
        pages=pages,
    )
    app.include_router(router)
    app.include_router(links.router)

    @app.get("/api/v1/launches/{launch_id}/events")
    async def events(request: Request, launch_id: str) -> Response:
        await launches.read(launch_id, principal(request))
        after = int(request.headers.get("last-event-id", "0").rpartition("~")[2].partition("-")[0])
        return StreamingResponse(launches.stream(launch_id, after), media_type="text/event-stream")

    @app.get("/build/{provider}/{_spec:path}")
    async def build(request: Request, provider: str) -> Response:
        refuse_cross_site(request)
        return PlainTextResponse(principal(request))

    @app.post("/api/v1/echo")
    async def echo(body: dict[str, str]) -> dict[str, str]:
        return body

    @app.get("/api/v1/broken")
    @app.get("/broken")
    async def broken() -> Response:
        raise RuntimeError("not foreseen")

    @app.get("/versions")
    async def versions() -> dict[str, str]:
        return {}

    @app.get("/user/u/{_path:path}")
    async def server(request: Request) -> Response:
        return PlainTextResponse(f"the server, at {request.url.path}?{request.url.query}")

    install_problem_handlers(app)
    install_error_pages(app, pages)
    app.add_middleware(HeadRequests)
    app.add_middleware(BoundedBodies, max_bytes=edge_settings.request_max_bytes)
    app.add_middleware(Edge, settings=edge_settings, refusals=RefusalRenderer(pages))
    app.add_middleware(StaticAssets)
    app.add_middleware(EndedServers, pages=pages)
    return app


@contextlib.asynccontextmanager
async def edge_client(base_url: str = OWN, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Return a client of a gateway on one's own machine, unless `settings` say otherwise."""
    app = fake_gateway(FakeLaunches(f"{OWN}/user/u/"), **{"listen_port": 8585, "public_url": OWN} | settings)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=base_url) as client:
        yield client


@contextlib.asynccontextmanager
async def pages_client(
    launches: FakeLaunches, backends: FakeBackends | None = None, /, **settings: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """Open a browser without scripts at a gateway's pages, on one's own machine unless `settings` say otherwise."""
    all_settings = {"listen_port": 8585, "public_url": OWN, "hub_url": "http://127.0.0.1:9000/"} | settings
    app = fake_gateway(launches, backends, **all_settings)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=OWN, headers={"accept": "text/html,*/*"}) as client:
        yield client


async def token_of(client: httpx.AsyncClient, path: str = "/") -> str:
    """Return the form token of a page."""
    match = re.search(r'name="token" value="([^"]+)"', (await client.get(path)).text)
    assert match
    return match[1]
