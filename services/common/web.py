"""The web scaffolding of every service: problems, request ids, health and metrics in plain routes, our token."""

import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager

from fastapi import APIRouter, Depends, FastAPI
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Histogram, generate_latest
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.common.auth import ServiceToken, require_secrets
from services.common.correlation import REQUEST_HEADER, taken_from
from services.common.counting import counted_as
from services.common.health import Health
from services.common.logging import bound_contextvars, get_logger
from services.common.problems import install_problem_handlers
from services.common.settings import ServiceSettings

log = get_logger(__name__)

REQUESTS = Counter("bindery_http_requests_total", "HTTP requests answered", ["method", "status"])
SECONDS = Histogram("bindery_http_request_seconds", "Time to the head of the answer, in seconds", ["method"])

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


async def send_bytes(
    send: Send, body: bytes, content_type: str, status: int = 200, *headers: tuple[bytes, bytes]
) -> None:
    """Answer with prebuilt bytes, past every middleware."""
    start = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body})


class PlainRoutes:
    """Answers `/health` and `/metrics` ahead of all middleware: no logging, no validation, no request objects."""

    def __init__(self, app: ASGIApp, health: Health, fixed: Mapping[str, bytes]) -> None:
        self.app = app
        self.health = health
        self.fixed = fixed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] in {"GET", "HEAD"}:
            if scope["path"] == "/health":
                ok, body = self.health.rendered()
                await send_bytes(send, body, "application/json", 200 if ok else 503)
                return
            if (found := self.fixed.get(scope["path"])) is not None:
                await send_bytes(send, found, "application/json")
                return
            if scope["path"] == "/metrics":
                await send_bytes(send, generate_latest(), CONTENT_TYPE_LATEST)
                return
        await self.app(scope, receive, send)


class RequestContext:
    """Gives each request an id, in the answer (`X-Request-ID`) and in every log line, and counts it.

    Unless `public`, its lines have the `launch_ref` too that the request comes with.
    """

    def __init__(self, app: ASGIApp, *, public: bool) -> None:
        self.app, self._public = app, public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        ties = taken_from(Headers(scope=scope), of_service=not self._public)
        method, begun = scope["method"], time.perf_counter()

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[REQUEST_HEADER] = ties["request_id"]
                REQUESTS.labels(method, message["status"]).inc()
                SECONDS.labels(method).observe(time.perf_counter() - begun)
                log.debug("request", method=method, path=scope["path"], status=message["status"])
            await send(message)

        with bound_contextvars(**ties), counted_as("work"):
            await self.app(scope, receive, counted)


def create_service(
    settings: ServiceSettings,
    *,
    name: str,
    lifespan: Lifespan,
    routers: Sequence[APIRouter],
    health: Health | None = None,
    public: bool = False,
    fixed: Mapping[str, bytes] | None = None,
) -> FastAPI:
    """A FastAPI application with everything that our services have in common.

    Unless `public`, every route but `/health` and `/metrics` asks for the service token. `fixed` are JSON replies that
    never change, by path. The lifespan finds the health checks under `app.state.health` and the settings under
    `app.state.settings`.

    Raises `SystemExit` where the secrets that the service needs are not set.
    """
    require_secrets(settings, name)
    health = health or Health()

    @contextlib.asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        async with lifespan(app), health.running():
            log.info("started", at=str(settings.listen_socket or settings.listen_port))
            yield
        log.info("stopped")

    app = FastAPI(
        title=f"Bindery {name}",
        lifespan=running,
        openapi_url="/openapi.json" if not public else "/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        dependencies=[] if public else [Depends(ServiceToken(settings))],
    )
    app.state.health = health
    app.state.settings = settings
    for router in routers:
        app.include_router(router)
    install_problem_handlers(app)
    app.add_middleware(RequestContext, public=public)
    app.add_middleware(PlainRoutes, health=health, fixed=fixed or {})
    return app
