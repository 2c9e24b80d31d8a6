"""Clients of the other services: resolver, builder and launcher. Every command may be repeated."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from pydantic import TypeAdapter

from services.common.models import (
    Build,
    BuildRequest,
    Contract,
    GitCredential,
    RefAnswer,
    RefQuestion,
    ResolvedRepo,
    ResolveRequest,
    Server,
    ServerRequest,
    Spec,
)
from services.common.models.error_codes import ErrorCode
from services.common.models.errors import BinderyError
from services.common.models.policy import PolicyQuestion, RunningServer, Verdicts
from services.common.net.http import PooledClient, ServiceClient
from services.common.net.reply import Reply
from services.common.service.backoff import Backoff
from services.common.service.call_accounting import attributed_to
from services.common.service.health import CheckFailure
from services.common.service.logging import get_logger
from services.common.web.auth import OPERATOR_HEADER
from services.gateway.settings import GatewaySettings

log = get_logger(__name__)

T = TypeVar("T")
_SERVERS = TypeAdapter(list[RunningServer])
RETRYABLE_CODES: frozenset[ErrorCode] = frozenset(
    {
        "resolver_unavailable", "builder_unavailable", "launcher_unavailable", "redis_unavailable",
        "registry_unavailable", "executor_unavailable", "overloaded", "request_timeout",
    }
)  # fmt: skip
"""Errors after which a call may be repeated: a service, or something that it needs, does not answer."""

OnUnavailable = Callable[[BinderyError], Awaitable[None]]
"""Called before the first repetition of a call, with the reason."""


class Backends:
    """Clients of resolver, builder and launcher, which repeat calls to a service that is unavailable, for a while."""

    def __init__(self, settings: GatewaySettings) -> None:
        token = settings.service_token.get_secret_value()

        def peer(url: str, name: str) -> ServiceClient:
            client = PooledClient(url, peer=name, token=token, read_seconds=settings.stage_timeout_seconds)
            return ServiceClient(client, service=name)

        self._patience_seconds = settings.stage_patience_seconds
        self._peers = {
            "resolver": peer(settings.resolver_url, "resolver"),
            "builder": peer(settings.builder_url, "builder"),
            "launcher": peer(settings.launcher_url, "launcher"),
        }
        self.resolver = self._peers["resolver"]
        self.builder = self._peers["builder"]
        self.launcher = self._peers["launcher"]

    @property
    def names(self) -> list[str]:
        """Names of the other services."""
        return list(self._peers)

    async def aclose(self) -> None:
        """Close all connections."""
        for peer in self._peers.values():
            await peer.aclose()

    async def _retry(self, call: Callable[[], Awaitable[T]], on_unavailable: OnUnavailable | None = None) -> T:
        """Repeat `call` while it fails with a retryable code, until the patience is exhausted."""
        backoff = Backoff(first_seconds=0.1, longest_seconds=2.0, patience_seconds=self._patience_seconds)

        while True:
            try:
                return await call()
            except BinderyError as error:
                if error.code not in RETRYABLE_CODES or backoff.is_exhausted:
                    raise
                log.warning("stage_away", code=error.code, detail=error.detail)
                if on_unavailable:
                    await on_unavailable(error)
                    on_unavailable = None

            await asyncio.sleep(backoff.next_wait_seconds())

    # Resolver

    async def resolve(self, spec: Spec, login: GitCredential | None = None) -> ResolvedRepo:
        """Return the repository and commit that a link names, as the holder of a login sees it, if there is one.

        Raise `BinderyError`.
        """
        body = json.dumps(ResolveRequest(provider=spec.provider, spec=spec.spec, credential=login).reveal())
        reply = await self._retry(lambda: self.resolver.call("POST", "/resolve", content=body))
        return ResolvedRepo.model_validate_json(reply.body)

    async def existing_refs(self, question: RefQuestion) -> tuple[str, ...]:
        """Return those of some refs that a repository has. It is asked once: a person waits. Raise `BinderyError`."""
        reply = await self.resolver.call("POST", "/refs", content=question.model_dump_json())
        return RefAnswer.model_validate_json(reply.body).existing

    async def providers(self) -> list[dict[str, Any]]:
        """Return the configured providers, in BinderHub's shape of `/api/repoproviders`, each with its `sites`."""
        configs: list[dict[str, Any]] = (await self.resolver.call("GET", "/providers")).json()
        return configs

    async def ask_policy(
        self,
        method: str,
        path: str,
        *,
        operator_token: str,
        params: dict[str, str] | None = None,
        body: Contract | None = None,
    ) -> Reply:
        """Call the resolver's API of the policy for a client, who has to be the operator. Raise `BinderyError`."""
        headers = {OPERATOR_HEADER: operator_token} if operator_token else None
        content = body.model_dump_json() if body else None
        return await self.resolver.call(method, f"/policy{path}", params=params, headers=headers, content=content)

    async def verdicts(self, question: PolicyQuestion) -> Verdicts:
        """Return which of some links may not be launched any more. It is asked once. Raise `BinderyError`."""
        reply = await self.resolver.call("POST", "/policy/verdicts", content=question.model_dump_json())
        return Verdicts.model_validate_json(reply.body)

    # Builder

    async def build(self, request: BuildRequest, on_unavailable: OnUnavailable | None = None) -> Build:
        """Return the build of a repository's image: finished, under way or just started. Raise `BinderyError`."""
        body = request.model_dump_json(exclude_none=True)
        reply = await self._retry(lambda: self.builder.call("POST", "/builds", content=body), on_unavailable)
        return Build.model_validate_json(reply.body)

    async def ask_builder(
        self, method: str, path: str, *, params: dict[str, str] | None = None, operator_token: str = ""
    ) -> Reply:
        """Call the builder's API for a client, who may be the operator. Raise `BinderyError`."""
        headers = {OPERATOR_HEADER: operator_token} if operator_token else None
        return await self.builder.call(method, path, params=params, headers=headers)

    async def leave_build(self, build_id: str, launch_ref: str, *, stop: bool) -> None:
        """Tell the builder that a launch no longer waits for a build."""
        path = f"/builds/{build_id}/waiters/{launch_ref}"
        await self._retry(lambda: self.builder.call("DELETE", path, params={"stop": str(stop).lower()}))

    # Launcher

    async def start_server(self, request: ServerRequest) -> Server:
        """Return the launch's server: just started, or started by an earlier call. Raise `BinderyError`."""
        body = request.model_dump_json(exclude_none=True)
        reply = await self._retry(lambda: self.launcher.call("POST", "/servers", content=body))
        return Server.model_validate_json(reply.body)

    async def check_seat(self, repo: ResolvedRepo, resource_class: str | None = None) -> None:
        """Raise `BinderyError` if a server of a repository would get neither a seat nor a position in the queue.

        Passes if the launcher is unavailable: it may have recovered by the time that a build is finished.
        """
        content = repo.model_dump_json(exclude_none=True)
        params = {"resource_class": resource_class or ""}
        try:
            await self.launcher.call("POST", "/seats/check", content=content, params=params)
        except BinderyError as error:
            if error.code not in RETRYABLE_CODES:
                raise
            log.warning("stage_away", code=error.code, detail=error.detail)

    async def stop_server(self, launch_ref: str, repo_url: str, attempt: int, *, launch_epoch: int) -> None:
        """Stop the server of a launch that ended without it, whether it is still starting or ready already.

        The launcher leaves it alone if another gateway owns the launch by now, which had `launch_epoch` here.
        """
        params = {
            "launch_ref": launch_ref,
            "repo_url": repo_url,
            "attempt": str(attempt),
            "even_ready": "true",
            "launch_epoch": str(launch_epoch),
        }
        await self._retry(lambda: self.launcher.call("DELETE", "/servers", params=params))

    async def running_servers(self) -> list[RunningServer]:
        """Return the servers that run or start, of all gateways' launches. It is asked once. Raise `BinderyError`."""
        return _SERVERS.validate_json((await self.launcher.call("GET", "/servers")).body)

    async def end_server(self, server_id: str) -> None:
        """End a server, whether it is still starting or ready. It is asked once. Raise `BinderyError`."""
        await self.launcher.call("DELETE", f"/servers/{server_id}", params={"even_ready": "true"})

    # Health

    async def health_problem(self, name: str) -> CheckFailure | None:
        """Return what a service's health checks report, or None. Its public part only names the checks."""
        all_rows = await self._peers[name].health()
        failed = [row for row in all_rows if not row.get("ok")]
        rows = failed or [row for row in all_rows if row.get("message")]
        if not rows:
            return None
        detail = "; ".join(f"{row['service']}: {row.get('message', 'not ok')}" for row in rows)
        names = ", ".join(row["service"] for row in rows)
        return CheckFailure(detail, f"{'not well' if failed else 'soon in trouble'}: {names}", is_warning=not failed)


class Providers:
    """The resolver's list of providers, cached for `ttl_seconds`."""

    def __init__(self, backends: Backends, *, ttl_seconds: float = 30.0) -> None:
        self._backends = backends
        self._ttl_seconds = ttl_seconds
        self._configs: list[dict[str, Any]] = []
        self._refresh_at = 0.0

    async def all(self) -> list[dict[str, Any]]:
        """Return every provider's display configuration; while the resolver is unavailable, the last known ones."""
        now = asyncio.get_running_loop().time()
        if now < self._refresh_at:
            return self._configs

        # With a cached list, a resolver that hangs is not waited for: no launch may hang on this list.
        timeout_seconds = 1.0 if self._configs else None
        try:
            async with asyncio.timeout(timeout_seconds):
                with attributed_to("upkeep"):
                    self._configs = await self._backends.providers()
            self._refresh_at = now + self._ttl_seconds
        except (BinderyError, TimeoutError):
            if not self._configs:
                raise
            self._refresh_at = now + 1.0
        return self._configs

    async def ids(self) -> list[str]:
        """Return the ids of all providers."""
        return [config["id"] for config in await self.all()]

    async def require(self, provider: str) -> None:
        """Raise `BinderyError("unknown_provider")` if `provider` is not the id of a provider."""
        ids = await self.ids()
        if provider not in ids:
            raise BinderyError("unknown_provider", f"There is no provider {provider!r}; there are: {', '.join(ids)}.")
