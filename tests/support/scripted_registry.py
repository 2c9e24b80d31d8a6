"""A registry over HTTP whose every answer a test gives: for answers that docker-registry never gives."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import KW_ONLY, dataclass, field

from aiohttp import web

from services.builder.registry import RegistryImages
from services.builder.settings import BuilderSettings
from tests.support.settings import settings_for

# A busy machine ends no lookup: who tests a limit shortens that one.
PATIENT = {"registry_wait_seconds": 120.0, "registry_connect_seconds": 60.0, "registry_read_seconds": 60.0}
DIGEST = "sha256:" + "a" * 64
API = {"Docker-Distribution-Api-Version": "registry/2.0"}

Reply = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, kw_only=True)
class RecordedRequest:
    """One request that the registry received."""

    method: str
    path: str
    headers: dict[str, str]
    query: dict[str, str]


@dataclass
class ScriptedRegistry:
    """`reply` makes every answer; `requests` holds the requests in their order."""

    reply: Reply
    _: KW_ONLY
    port: int = 0
    requests: list[RecordedRequest] = field(default_factory=list)
    has_request: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def image(self) -> str:
        return f"{self.address}/project/r2d-x:1"

    @property
    def methods(self) -> list[str]:
        return [request.method for request in self.requests]

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append(
            RecordedRequest(
                method=request.method, path=request.path, headers=dict(request.headers), query=dict(request.query)
            )
        )
        self.has_request.set()
        return await self.reply(request)

    def images(self, **others: object) -> RegistryImages:
        """Open images that are looked up here."""
        defaults = {"image_prefix": f"{self.address}/project/r2d-", "registry_insecure": True, "docker_config": "/none"}
        return RegistryImages(settings_for(BuilderSettings, {**PATIENT, **defaults, **others}))


def always(status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> Reply:
    """Return the same answer to everything."""

    async def reply(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status, headers=headers, body=body)

    return reply


@contextlib.asynccontextmanager
async def scripted_registry(reply: Reply, tls: ssl.SSLContext | None = None) -> AsyncIterator[ScriptedRegistry]:
    registry = ScriptedRegistry(reply)
    runner = web.ServerRunner(web.Server(registry.handle), shutdown_timeout=0.05)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        registry.port = runner.addresses[0][1]
        yield registry
    finally:
        await runner.cleanup()
