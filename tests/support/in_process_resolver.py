"""The resolver's application, called over ASGI and pointed at a forge; it needs no Redis."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from redis.asyncio import Redis

from deploy.local.redis import redis_url
from services.common.models import Problem, ResolvedRepo
from services.resolver.app import create_app
from services.resolver.settings import ResolverSettings
from tests.support.forge import Forge
from tests.support.valkey import PASSWORD

TOKEN = "token-of-the-tests"


class ResolverClient:
    """A running resolver: `repo` and `problem` say what they expect, perhaps for the holder of a token."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    async def post(self, provider: str, spec: str, token: str = "") -> httpx.Response:
        body: dict[str, Any] = {"provider": provider, "spec": spec}
        if token:
            body["credential"] = {"password": token}
        return await self.client.post("/resolve", json=body)

    async def repo(self, provider: str, spec: str, token: str = "") -> ResolvedRepo:
        reply = await self.post(provider, spec, token)
        assert reply.status_code == 200, reply.text
        return ResolvedRepo.model_validate_json(reply.content)

    async def problem(self, provider: str, spec: str, token: str = "") -> Problem:
        reply = await self.post(provider, spec, token)
        assert reply.status_code >= 400, reply.text
        assert reply.headers["content-type"] == "application/problem+json"
        problem = Problem.model_validate_json(reply.content)
        assert reply.status_code == problem.status
        assert reply.headers.get("retry-after", "").isdigit() is bool(problem.retry_after_seconds)
        return problem


@asynccontextmanager
async def running_resolver(forge: Forge | None = None, **settings: Any) -> AsyncIterator[ResolverClient]:
    """Run a resolver that may reach loopback, for which `forge` is GitHub."""
    chosen: dict[str, Any] = {"allowed_networks": "127.0.0.0/8", "service_token": TOKEN}
    chosen["redis_url"] = "redis://127.0.0.1:1/0"
    if forge is not None:
        chosen |= {"github_url": forge.url, "github_api_url": forge.api_url}
    app = create_app(ResolverSettings(**chosen | settings))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://resolver", headers=headers) as client:
            yield ResolverClient(client)


@asynccontextmanager
async def replicas(forge: Forge, redis: Redis, *settings: dict[str, object]) -> AsyncIterator[list[ResolverClient]]:
    """Run a resolver for each of `settings`, with the rights in Redis that a resolver has."""
    path = Path(redis.connection_pool.connection_kwargs["path"])
    url = redis_url(path, "resolver", PASSWORD)
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(running_resolver(forge, **{"redis_url": url} | chosen))
            for chosen in settings
        ]
