"""The web application of every service: problems, request ids, health, metrics and the service token."""

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import APIRouter, FastAPI
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, Histogram, generate_latest
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.common.service.call_accounting import attributed_to
from services.common.service.correlation import REQUEST_HEADER, SERVICE_HEADER, from_headers
from services.common.service.health import NOT_STARTED, Health
from services.common.service.logging import bound_contextvars, get_logger
from services.common.service.loops import background_state
from services.common.service.setting_names import warn_of_overridden_settings
from services.common.service.settings import ServiceSettings, settings_of_file
from services.common.web.auth import ServiceToken, has_token, require_secrets, unauthorized
from services.common.web.early_start import Refusal, RefuseUntilStarted
from services.common.web.incoming import BoundedBodies, HeadRequests
from services.common.web.problems import install_problem_handlers

log = get_logger(__name__)

REQUESTS = Counter("bindery_http_requests_total", "HTTP requests answered", ["method", "status"])
REQUEST_SECONDS = Histogram("bindery_http_request_seconds", "Time to the head of the answer, in seconds", ["method"])
TASKS = Gauge("bindery_tasks", "Asyncio tasks of the process")

_SERVICE_HEADER = SERVICE_HEADER.lower().encode()

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]

ReadMetrics = Callable[[Any], Awaitable[bytes]]
"""Reads metrics at the moment they are asked for, in Prometheus's text format, with the context of the service."""


async def send_bytes(
    send: Send, body: bytes, content_type: str, status: int = 200, *headers: tuple[bytes, bytes]
) -> None:
    """Send a response of prebuilt bytes, past every middleware."""
    start = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body})


class RefuseMisdirected:
    """Refuses calls that are meant for another service: they came here because this one has got that one's address.

    The connection is closed, so that the caller looks the address up again.
    """

    def __init__(self, app: ASGIApp, *, name: str) -> None:
        self.app = app
        self._name = name.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 421 if the request names another service."""
        if scope["type"] == "http":
            for header, value in scope["headers"]:
                if header == _SERVICE_HEADER and value != self._name:
                    body = f"This is the {self._name.decode()}, not the service that was meant.".encode()
                    await send_bytes(send, body, "text/plain", 421, (b"connection", b"close"))
                    return
        await self.app(scope, receive, send)


class HealthAndMetrics:
    """Answers `/health`, `/livez`, `/readyz` and `/metrics` ahead of all other middleware: no logging, no validation.

    `/livez` says whether the loops of this process run: if not, a new process is needed. `/readyz` says whether this
    process takes requests. Neither depends on another service or Redis, which all replicas would lose at once.

    Anyone may read which health checks fail; only a holder of the service token reads why. `/metrics` requires its own
    token if the settings have one.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        health: Health,
        fixed: Mapping[str, bytes],
        read_metrics: ReadMetrics | None,
        settings: ServiceSettings,
    ) -> None:
        self.app = app
        self.health = health
        self.fixed = fixed
        self._read_metrics = read_metrics
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer these paths and those of `fixed`; pass everything else on."""
        if scope["type"] == "http" and scope["method"] in {"GET", "HEAD"}:
            if scope["path"] in {"/livez", "/readyz"}:
                problem = self._live_problem() if scope["path"] == "/livez" else self._ready_problem(scope)
                body = json.dumps({"ok": not problem, "message": problem}).encode()
                await send_bytes(send, body, "application/json", 503 if problem else 200)
                return

            if scope["path"] == "/health":
                ok, body = self.health.rendered(in_detail=has_token(scope, self._settings.service_token))
                await send_bytes(send, body, "application/json", 200 if ok else 503)
                return

            if (fixed_body := self.fixed.get(scope["path"])) is not None:
                await send_bytes(send, fixed_body, "application/json")
                return

            if scope["path"] == "/metrics":
                expected = self._settings.metrics_token
                if expected.get_secret_value() and not has_token(scope, expected):
                    detail = "Send the token for metrics (BINDERY_METRICS_TOKEN) as a bearer token."
                    await unauthorized(detail)(scope, receive, send)
                    return
                TASKS.set(len(asyncio.all_tasks()))
                context = getattr(scope["app"].state, "context", None)  # none before the start
                read = await self._read_metrics(context) if self._read_metrics and context else b""
                await send_bytes(send, generate_latest() + read, CONTENT_TYPE_LATEST)
                return

        await self.app(scope, receive, send)

    def _live_problem(self) -> str:
        background = background_state()
        if background.ended.is_set():
            return "A background task of this process has ended."
        stalled_loops = background.stalled_loops(self._settings.loop_stalled_seconds)
        return f"These loops have stalled: {', '.join(stalled_loops)}." if stalled_loops else ""

    def _ready_problem(self, scope: Scope) -> str:
        background = background_state()
        if background.stopping.is_set() or background.ended.is_set():
            return "This process is about to end."
        if background.start_problem and has_token(scope, self._settings.service_token):
            return background.start_problem
        return NOT_STARTED if background.start_problem else ""


class RequestContext:
    """Gives each request an id, in the response (`X-Request-ID`) and in every log line, and counts it.

    Unless `public`, log lines also have the request's `launch_ref`, and responses are marked `no-store`, as services
    send each other tokens of servers.
    """

    def __init__(self, app: ASGIApp, *, public: bool) -> None:
        self.app = app
        self._public = public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Bind the ids, and count the response."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        ids = from_headers(Headers(scope=scope), of_service=not self._public)
        method = scope["method"]
        started = time.perf_counter()

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers[REQUEST_HEADER] = ids["request_id"]
                if not self._public:
                    headers["Cache-Control"] = "no-store"
                REQUESTS.labels(method, message["status"]).inc()
                REQUEST_SECONDS.labels(method).observe(time.perf_counter() - started)
                log.debug("request", method=method, path=scope["path"], status=message["status"])
            await send(message)

        with bound_contextvars(**ids), attributed_to("work"):
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
    read_metrics: ReadMetrics | None = None,
    body_max_bytes: int | None = None,
    refusal: Refusal | None = None,
) -> FastAPI:
    """Return a FastAPI application with everything that our services have in common.

    Unless `public`, everything but `/health`, `/livez`, `/readyz` and `/metrics` requires the service token, which is
    checked before a body is read. Bodies are limited to `body_max_bytes` or the setting for services, and HEAD is
    answered wherever GET is. `fixed` has JSON responses that never change, by path. `/metrics` answers with the metrics
    of the process, and what `read_metrics` returns. The lifespan finds the health checks in `app.state.health` and the
    settings in `app.state.settings`. Requests that come before it has begun are answered by `refusal`, or with a
    problem.

    Raise `SystemExit` if a secret that the service needs is not set.
    """
    require_secrets(settings, name)
    health = health or Health()

    @contextlib.asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        async with lifespan(app) if lifespan else contextlib.nullcontext(), health.running():
            warn_of_overridden_settings(settings_of_file(), os.environ)
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
    # A request passes the middleware that was added last first.
    app.add_middleware(HeadRequests)
    app.add_middleware(BoundedBodies, max_bytes=body_max_bytes or settings.service_request_max_bytes)
    app.add_middleware(
        RefuseUntilStarted,
        name=name,
        hold_seconds=settings.start_hold_seconds,
        held_max=settings.start_held_max,
        refusal=refusal,
    )
    if not public:
        app.add_middleware(ServiceToken, settings=settings)
    app.add_middleware(RequestContext, public=public)
    app.add_middleware(HealthAndMetrics, health=health, fixed=fixed or {}, read_metrics=read_metrics, settings=settings)
    app.add_middleware(RefuseMisdirected, name=name)
    return app
