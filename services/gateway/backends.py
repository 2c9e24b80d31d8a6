"""The other stages, as the gateway asks them. Every command may be repeated."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from services.common.models import Build, BuildRequest, ResolvedRepo, Server, ServerRequest, Spec
from services.common.models.error_codes import ErrorCode, known_code
from services.common.models.errors import BinderyError
from services.common.net.http import Peer, PooledClient, Reply
from services.common.service.call_accounting import attributed_to
from services.common.service.health import CheckFailure
from services.common.service.logging import get_logger
from services.common.web.auth import OPERATOR_HEADER
from services.gateway.settings import GatewaySettings

log = get_logger(__name__)

T = TypeVar("T")
RETRYABLE_CODES: frozenset[ErrorCode] = frozenset(
    {
        "resolver_unavailable", "builder_unavailable", "launcher_unavailable", "redis_unavailable",
        "registry_unavailable", "executor_unavailable", "overloaded", "request_timeout",
    }
)  # fmt: skip
"""Errors of a call that may be made again: a stage, or what it needs, does not answer."""

OnUnavailable = Callable[[BinderyError], Awaitable[None]]
"""Called once where a call has to be made again, with the reason."""


class Backends:
    """Clients of resolver, builder and launcher. A stage that is away is asked again, with back-off, for a while."""

    def __init__(self, settings: GatewaySettings) -> None:
        token = settings.service_token.get_secret_value()

        def peer(url: str, name: str) -> Peer:
            client = PooledClient(url, peer=name, token=token, read_seconds=settings.stage_timeout_seconds)
            return Peer(client, unavailable=known_code(f"{name}_unavailable"))

        self._patience = settings.stage_patience_seconds
        self.resolver = peer(settings.resolver_url, "resolver")
        self.builder = peer(settings.builder_url, "builder")
        self.launcher = peer(settings.launcher_url, "launcher")

    async def aclose(self) -> None:
        for peer in (self.resolver, self.builder, self.launcher):
            await peer.aclose()

    async def _retry(self, call: Callable[[], Awaitable[T]], on_unavailable: OnUnavailable | None = None) -> T:
        loop = asyncio.get_running_loop()
        deadline, pause = loop.time() + self._patience, 0.1
        while True:
            try:
                return await call()
            except BinderyError as error:
                if error.code not in RETRYABLE_CODES or loop.time() + pause > deadline:
                    raise
                log.warning("stage_away", code=error.code, detail=error.detail)
                if on_unavailable:
                    await on_unavailable(error)
                    on_unavailable = None
            await asyncio.sleep(pause * random.uniform(0.7, 1.3))  # noqa: S311
            pause = min(2.0, pause * 2)

    async def resolve(self, spec: Spec) -> ResolvedRepo:
        """What a link means. Raises `BinderyError`."""
        reply = await self._retry(lambda: self.resolver.call("POST", "/resolve", content=spec.model_dump_json()))
        return ResolvedRepo.model_validate_json(reply.content)

    async def build(self, request: BuildRequest, on_unavailable: OnUnavailable | None = None) -> Build:
        """The build of a repository's image: there, on its way, or begun. Raises `BinderyError`."""
        body = request.model_dump_json(exclude_none=True)
        reply = await self._retry(lambda: self.builder.call("POST", "/builds", content=body), on_unavailable)
        return Build.model_validate_json(reply.content)

    async def ask_builder(
        self, method: str, path: str, *, params: dict[str, str] | None = None, operator_token: str = ""
    ) -> Reply:
        """Ask the builder's API on behalf of a client, who may be the operator. Raises `BinderyError`."""
        headers = {OPERATOR_HEADER: operator_token} if operator_token else None
        return await self.builder.call(method, path, params=params, headers=headers)

    async def leave_build(self, build_id: str, launch_ref: str, *, stop: bool) -> None:
        """Tell the builder that a launch waits no more."""
        path = f"/builds/{build_id}/waiters/{launch_ref}"
        await self._retry(lambda: self.builder.call("DELETE", path, params={"stop": str(stop).lower()}))

    async def start_server(self, request: ServerRequest) -> Server:
        """The launch's server: started, or the one that was. Raises `BinderyError`."""
        body = request.model_dump_json(exclude_none=True)
        reply = await self._retry(lambda: self.launcher.call("POST", "/servers", content=body))
        return Server.model_validate_json(reply.content)

    async def check_seat(self, repo: ResolvedRepo, resource_class: str | None = None) -> None:
        """Raise `BinderyError` where a server of a repository would get neither a seat nor a place in the queue.

        A launcher that is away is not waited for: it is well, perhaps, by the time that something is built.
        """
        try:
            content, params = repo.model_dump_json(exclude_none=True), {"resource_class": resource_class or ""}
            await self.launcher.call("POST", "/seats/check", content=content, params=params)
        except BinderyError as error:
            if error.code not in RETRYABLE_CODES:
                raise
            log.warning("stage_away", code=error.code, detail=error.detail)

    async def stop_server(self, launch_ref: str, repo_url: str, attempt: int) -> None:
        """Give up the server of a launch that ended without becoming ready: its start, or what is ready already."""
        of = {"launch_ref": launch_ref, "repo_url": repo_url, "attempt": str(attempt), "even_ready": "true"}
        await self._retry(lambda: self.launcher.call("DELETE", "/servers", params=of))

    async def providers(self) -> list[dict[str, Any]]:
        """The providers that there are, in BinderHub's shape of `/api/repoproviders`."""
        found: list[dict[str, Any]] = (await self.resolver.call("GET", "/providers")).json()
        return found

    async def trouble(self, name: str) -> CheckFailure | None:
        """For health: what a stage itself finds wrong, or None. Anybody may read which of its checks it is."""
        peer: Peer = getattr(self, name)
        wrong = [row for row in await peer.health() if not row.get("ok")]
        if not wrong:
            return None
        detail = "; ".join(f"{row['service']}: {row.get('message', 'not ok')}" for row in wrong)
        return CheckFailure(detail, f"not well: {', '.join(str(row['service']) for row in wrong)}")


class Providers:
    """The providers that there are, asked of the resolver and kept for a while."""

    def __init__(self, backends: Backends, *, kept_seconds: float = 30.0) -> None:
        self._backends, self._kept_seconds = backends, kept_seconds
        self._found: list[dict[str, Any]] = []
        self._due = 0.0

    async def all(self) -> list[dict[str, Any]]:
        """Every provider's display configuration; the last known ones while the resolver is away."""
        now = asyncio.get_running_loop().time()
        if now >= self._due:
            try:
                # Who knows some waits for no resolver that stands still: no launch hangs on this list.
                async with asyncio.timeout(1.0 if self._found else None):
                    with attributed_to("upkeep"):
                        self._found, self._due = await self._backends.providers(), now + self._kept_seconds
            except (BinderyError, TimeoutError):
                if not self._found:
                    raise
                self._due = now + 1.0
        return self._found
