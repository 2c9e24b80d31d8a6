"""The gateway's application with launches whose stories are given: for tests of pages, edge and scripts alone."""

import asyncio
import contextlib
import dataclasses
import json
import re
import time
from collections.abc import AsyncIterator
from typing import Any, cast

import httpx
from fastapi import FastAPI, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from services.common.models import (
    Cause,
    Launch,
    LaunchId,
    LaunchOptions,
    LaunchState,
    Queue,
    ResolvedRepo,
    Server,
    Spec,
)
from services.common.models.error_codes import ErrorCode
from services.common.models.errors import BinderyError
from services.common.models.ids import launch_ref, new_launch_id
from services.common.models.server import ServerState
from services.common.streams.entries import failed_event
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
from services.gateway.routes.pages import router
from services.gateway.settings import GatewaySettings
from tests.support.settings import settings_for

OWN = "http://127.0.0.1:8585"
PROVIDERS: list[dict[str, Any]] = [
    {
        "displayName": "GitHub",
        "id": "gh",
        "spec": {"validateRegex": r"[^/]+/[^/]+/.+"},
        "detect": {"regex": "^(https?://github.com/)?(?<repo>.*[^/])/?"},
        "repo": {
            "label": "GitHub repository name or URL",
            "placeholder": "example: binder-examples/requirements or https://github.com/binder-examples/requirements",
            "urlEncode": False,
        },
        "ref": {"enabled": True, "default": "HEAD"},
    },
    {
        "displayName": "Git repository",
        "id": "git",
        "spec": {"validateRegex": r"[^/]+/.+"},
        "repo": {
            "label": "Arbitrary git repository URL",
            "placeholder": "example: http://git.example.com/repo",
            "urlEncode": True,
        },
        "ref": {"enabled": True, "default": "HEAD"},
    },
    {
        "displayName": "Zenodo DOI",
        "id": "zenodo",
        "spec": {"validateRegex": r"10\.\d+\/(.)+"},
        "repo": {"label": "Zenodo DOI", "placeholder": "example: 10.5281/zenodo.3242074", "urlEncode": False},
        "ref": {"enabled": False},
    },
]
SHA = "3f9d2c41b7e05a8866d1c0f4a2b39e7710d5c8aa"

# One step of a story: seconds to wait, the launch's fields from then on, the event that tells of it.
Step = tuple[float, dict[str, Any], dict[str, Any]]
HOSTILE = "\x1b[31m<img src=x onerror=alert(1)>\x1b[0m \x1b]0;title\x07\u202egpj.exe\u202c"


class FakeBackends:
    """A resolver with a fixed list of providers."""

    async def providers(self) -> list[dict[str, Any]]:
        return PROVIDERS


def fake_providers() -> Providers:
    """Return the real cache of providers, before a resolver with a fixed list."""
    return Providers(cast("Backends", FakeBackends()))


def gateway_context(settings: GatewaySettings, **parts: object) -> GatewayContext:
    """Return a gateway's context of which a test needs only some parts, which may be fakes."""
    names = [field.name for field in dataclasses.fields(GatewayContext)]
    values: dict[str, Any] = dict.fromkeys(names) | {"settings": settings} | parts
    return GatewayContext(**values)


def _repo(spec: Spec) -> ResolvedRepo:
    name = "/".join(spec.spec.split("/")[:2])
    url = f"https://github.com/{name}"
    return ResolvedRepo(
        provider=spec.provider, spec=spec.spec, repo_url=url, ref=SHA, resolved_spec=f"{name}/{SHA}",
        ref_url=f"{url}/tree/{SHA}", slug=name.replace("/", "-"), display_name=name,
    )  # fmt: skip


def _story(spec: Spec) -> list[Step]:
    """Return the steps of a launch: the repository's name says which."""
    repo = _repo(spec)
    build = "0123456789abcdef01234567-1"
    first: Step = (0.2, {"repo": repo}, {"phase": "resolving", "message": f"Found {repo.display_name} at {SHA}\n"})
    building: Step = (
        0.2,
        {"state": LaunchState.BUILDING, "build_id": build, "image": "i-1"},
        {"phase": "building", "state": "building", "build_id": build, "message": "Cloning\n"},
    )

    def line(text: str, phase: str = "building") -> Step:
        return (0.05, {}, {"phase": phase, "message": text})

    def fails(code: ErrorCode, detail: str, cause: Cause | None = None) -> Step:
        problem = BinderyError(code, detail, cause=cause).problem
        event = {"phase": "failed", "message": f"{detail}\n", "error": problem.model_dump(), "terminal": True}
        return (0.2, {"state": LaunchState.FAILED, "error": problem}, event)

    log = [
        line(f"Collecting package-{n}\n  Downloading package_{n}-1.{n}-py3-none-any.whl (1.{n} MB)\n")
        for n in range(30)
    ]
    serving: list[Step] = [
        (0.2, {"state": LaunchState.LAUNCHING, "server_id": "s1"}, {"phase": "built", "message": "Built image\n"}),
        (0.3, {}, {"phase": "launching", "message": "Spawning server\n"}),
        (0.3, {"state": LaunchState.READY}, {"phase": "ready", "message": "ready\n", "url": "x", "terminal": True}),
    ]
    if "missing" in spec.spec:
        return [
            fails("ref_not_found", f"There is no branch, tag or commit {spec.spec.split('/')[-1]} in {repo.repo_url}.")
        ]
    if "fails" in spec.spec:
        detail = "The installer could not find numpyy. Its own words are at the end of the log."
        before = [first, building, *log]
        cause = Cause(text="numpyy", after=f"{len(before)}-0.1", rule="pip:not-found")
        return [
            *before,
            line("ERROR: No matching distribution found for numpyy\n"),
            *log,
            fails("build_failed", detail, cause),
        ]
    if "queued" in spec.spec:
        waits = [
            (0.3, {"queue": Queue(reason="builders_busy", position=at, eta_seconds=50.0 * at)},
             {"phase": "waiting", "message": "", "queue": {"reason": "busy", "position": at, "eta_seconds": 50.0 * at}})
            for at in (3, 2)
        ]  # fmt: skip
        return [first, building, *waits, (3600.0, {}, {"phase": "waiting", "message": ""})]
    if "endless" in spec.spec:
        return [first, building, *log, line(f"{HOSTILE}\n"), (3600.0, {}, {"phase": "building", "message": "end\n"})]
    if "long" in spec.spec:
        many = [line("".join(f"line {n * 100 + at}\n" for at in range(100))) for n in range(100)]
        bar = [line(f"\r{percent} % of it") for percent in range(100)]
        return [first, building, *[(0.0, *step[1:]) for step in many], *bar, (3600.0, {}, {"phase": "building"})]
    if "warm" in spec.spec:
        return [first, (0.2, {"image": "i-1"}, {"phase": "built", "message": "Found built image\n"}), *serving[1:]]
    return [first, building, *log, *serving]


class FakeLaunches:
    """Launches whose story is in their repository's name: missing, fails, queued, endless, long, warm, or all well."""

    def __init__(self, server_url: str) -> None:
        self.server_url = server_url
        self.launches: dict[str, Launch] = {}
        self.events: dict[str, list[dict[str, Any]]] = {}
        self.requests: list[dict[str, Any]] = []
        self.server_state = ServerState.READY
        self.breaks_after = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._keys: dict[str, str] = {}

    async def start(
        self,
        spec: Spec,
        *,
        principal: str,
        options: LaunchOptions,
        client_ip: str,
        launch_host: str,
        idempotency_key: str = "",
        body_hash: str = "",
    ) -> tuple[Launch, bool]:
        if idempotency_key in self._keys:
            return self.launches[self._keys[idempotency_key]], False
        launch_id = new_launch_id()
        launch = Launch(
            launch_id=launch_id, launch_ref=launch_ref(launch_id), spec=spec, principal=principal, options=options,
            state=LaunchState.RESOLVING, created_at=time.time(), client_ip=client_ip, launch_host=launch_host,
        )  # fmt: skip
        self.launches[launch_id] = launch
        self.events[launch_id] = []
        if idempotency_key:
            self._keys[idempotency_key] = launch_id
        self.requests.append({"spec": str(spec), "options": options, "client_ip": client_ip, "host": launch_host})
        self._tasks.append(asyncio.create_task(self._live(launch_id)))
        return launch, True

    async def _live(self, launch_id: str) -> None:
        for seconds, changes, event in _story(self.launches[launch_id].spec):
            await asyncio.sleep(seconds)
            self._happens(launch_id, changes, event)

    def _happens(self, launch_id: str, changes: dict[str, Any], event: dict[str, Any]) -> None:
        launch = self.launches.get(launch_id)
        if launch is None or launch.state.is_final:
            return
        if changes.get("state") in {LaunchState.READY, LaunchState.FAILED, LaunchState.CANCELLED}:
            changes = {**changes, "finished_at": time.time()}
        self.launches[launch_id] = launch.updated(**changes)
        self.events[launch_id].append(event)

    async def read(self, launch_id: str, principal: str) -> Launch:
        if launch_id not in self.launches:
            raise BinderyError("not_found", "There is no such launch, or it was too long ago.")
        return self.launches[launch_id]

    async def cancel(self, launch_id: str, principal: str) -> None:
        launch = await self.read(launch_id, principal)
        if launch.state.is_final:
            raise BinderyError("conflict", "The launch has ended already.")
        problem = BinderyError("cancelled", "The launch was cancelled.").problem
        event = {"phase": "cancelled", "message": "The launch was cancelled.\n", "terminal": True}
        self._happens(launch_id, {"state": LaunchState.CANCELLED, "error": problem}, event)

    def lose(self, launch_id: str) -> None:
        """Let Redis lose a launch, and tell its followers."""
        problem = BinderyError("launch_lost", "Redis has lost this launch. Please launch again.").problem
        del self.launches[launch_id]
        self.events[launch_id].append({**failed_event(problem), "terminal": True})

    async def server(self, launch: Launch) -> Server | None:
        return Server(
            server_id=Server.identity("h", "u", ""), hub_id="h", user="u", server_name="", launch_ref=launch.launch_ref,
            state=self.server_state, image="i-1", repo_url="https://github.com/o/r", url=self.server_url, token="T",
            created_at=time.time(),
        )  # fmt: skip

    def put(self, **fields: Any) -> LaunchId:
        """Add a launch as it is, without a story."""
        launch_id = new_launch_id()
        defaults: dict[str, Any] = {
            "launch_id": launch_id,
            "launch_ref": launch_ref(launch_id),
            "spec": Spec(provider="gh", spec="o/r/HEAD"),
            "principal": "anon:x",
            "state": LaunchState.RESOLVING,
            "created_at": time.time() - 90,
        }
        self.launches[launch_id] = Launch(**defaults | fields)
        self.events[launch_id] = []
        return launch_id

    async def stream(self, launch_id: str, after: int) -> AsyncIterator[str]:
        """Yield the launch's events after number `after`. End too early after `breaks_after` of them, if set."""
        ends_at = after + self.breaks_after if self.breaks_after else -1
        while True:
            for at, event in enumerate(self.events[launch_id][after:], after + 1):
                yield f"id: {launch_id}~1-0.1~{at}-0.1\ndata: {json.dumps(event)}\n\n"
                after = at
                if event.get("terminal") or at == ends_at:
                    return
            await asyncio.sleep(0.02)

    async def aclose(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def fake_gateway(launches: FakeLaunches, **settings: Any) -> FastAPI:
    """Return pages, edge and static assets as the gateway joins them, and as much of the API as scripts need."""
    edge_settings = settings_for(GatewaySettings, {"installation_secret": "s3cret", "local_mode": True} | settings)
    app = FastAPI()
    pages = Pages(edge_settings)
    app.state.context = gateway_context(edge_settings, launches=launches, providers=fake_providers(), pages=pages)
    app.include_router(router)

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
async def pages_client(launches: FakeLaunches, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Open a browser without scripts at a gateway's pages, on one's own machine unless `settings` say otherwise."""
    all_settings = {"listen_port": 8585, "public_url": OWN, "hub_url": "http://127.0.0.1:9000/"} | settings
    app = fake_gateway(launches, **all_settings)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=OWN, headers={"accept": "text/html,*/*"}) as client:
        yield client


async def token_of(client: httpx.AsyncClient, path: str = "/") -> str:
    """Return the form token of a page."""
    match = re.search(r'name="token" value="([^"]+)"', (await client.get(path)).text)
    assert match
    return match[1]
