"""The web scaffolding of every service: problems, request ids, health and metrics in plain routes, our token."""

import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager

from fastapi import APIRouter, FastAPI
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Histogram, generate_latest
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.common.service.call_accounting import attributed_to
from services.common.service.correlation import REQUEST_HEADER, from_headers
from services.common.service.health import Health
from services.common.service.logging import bound_contextvars, get_logger
from services.common.service.settings import ServiceSettings
from services.common.web.auth import ServiceToken, has_token, require_secrets, unauthorized
from services.common.web.incoming import BoundedBodies, HeadRequests
from services.common.web.problems import install_problem_handlers

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


class HealthAndMetrics:
    """Answers `/health` and `/metrics` ahead of all middleware: no logging, no validation, no request objects.

    What is wrong in detail is for who has the service token; anybody reads which check it is. `/metrics` asks for a
    token of its own where the settings have one.
    """

    def __init__(self, app: ASGIApp, health: Health, fixed: Mapping[str, bytes], settings: ServiceSettings) -> None:
        self.app = app
        self.health = health
        self.fixed = fixed
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] in {"GET", "HEAD"}:
            if scope["path"] == "/health":
                ok, body = self.health.rendered(in_detail=has_token(scope, self._settings.service_token))
                await send_bytes(send, body, "application/json", 200 if ok else 503)
                return
            if (found := self.fixed.get(scope["path"])) is not None:
                await send_bytes(send, found, "application/json")
                return
            if scope["path"] == "/metrics":
                expected = self._settings.metrics_token
                if expected.get_secret_value() and not has_token(scope, expected):
                    said = "Send the token for metrics (BINDERY_METRICS_TOKEN) as a bearer token."
                    await unauthorized(said)(scope, receive, send)
                    return
                await send_bytes(send, generate_latest(), CONTENT_TYPE_LATEST)
                return
        await self.app(scope, receive, send)


class RequestContext:
    """Gives each request an id, in the answer (`X-Request-ID`) and in every log line, and counts it.

    Unless `public`, its lines have the `launch_ref` too that the request comes with, and nobody may keep the answer:
    there are tokens of servers among what services tell each other.
    """

    def __init__(self, app: ASGIApp, *, public: bool) -> None:
        self.app, self._public = app, public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        ties = from_headers(Headers(scope=scope), of_service=not self._public)
        method, begun = scope["method"], time.perf_counter()

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers[REQUEST_HEADER] = ties["request_id"]
                if not self._public:
                    headers["Cache-Control"] = "no-store"
                REQUESTS.labels(method, message["status"]).inc()
                SECONDS.labels(method).observe(time.perf_counter() - begun)
                log.debug("request", method=method, path=scope["path"], status=message["status"])
            await send(message)

        with bound_contextvars(**ties), attributed_to("work"):
            await self.app(scope, receive, counted)


def create_service(
    settings: ServiceSettings,
    *,
    name: str,
    lifespan: Lifespan | None = None,
    routers: Sequence[APIRouter] = (),
    health: Health | None = None,
    public: bool = False,
    fixed: Mapping[str, bytes] | None = None,
    body_max_bytes: int | None = None,
) -> FastAPI:
    """A FastAPI application with everything that our services have in common.

    Unless `public`, everything but `/health` and `/metrics` asks for the service token, before anything of a body is
    read. Bodies are bounded, by `body_max_bytes` where that is given, and HEAD is answered where GET is. `fixed` are
    JSON replies that never change, by path. The lifespan finds the health checks under `app.state.health` and the
    settings under `app.state.settings`.

    Raises `SystemExit` where the secrets that the service needs are not set.
    """
    require_secrets(settings, name)
    health = health or Health()

    @contextlib.asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        async with lifespan(app) if lifespan else contextlib.nullcontext(), health.running():
            log.info("started", at=str(settings.listen_socket or settings.listen_port))
            yield
        log.info("stopped")

    app = FastAPI(
        title=f"Bindery {name}",
        lifespan=running,
        openapi_url="/openapi.json" if not public else "/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    app.state.health = health
    app.state.settings = settings
    for router in routers:
        app.include_router(router)
    install_problem_handlers(app)
    # The last that is added is the first that a request meets.
    app.add_middleware(HeadRequests)
    app.add_middleware(BoundedBodies, max_bytes=body_max_bytes or settings.service_request_max_bytes)
    if not public:
        app.add_middleware(ServiceToken, settings=settings)
    app.add_middleware(RequestContext, public=public)
    app.add_middleware(HealthAndMetrics, health=health, fixed=fixed or {}, settings=settings)
    return app
