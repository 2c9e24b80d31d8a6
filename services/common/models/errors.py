"""The closed list of error codes, and the exception that carries one of them."""

from dataclasses import dataclass
from typing import Self

from services.common.models.base import OpenEnum
from services.common.models.problem import Problem


class Mover(OpenEnum):
    """Whose move it is: who can do something about the error."""

    USER = "user"
    AUTHOR = "author"
    OPERATOR = "operator"
    UPSTREAM = "upstream"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class ErrorKind:
    """What is always true of one error code."""

    code: str
    title: str
    status: int
    phase: str | None
    mover: Mover
    can_retry: bool = False
    retry_after_seconds: float | None = None


_KINDS = [
    # The request itself
    ErrorKind("bad_request", "The request can't be understood", 400, None, Mover.USER),
    ErrorKind("request_too_large", "The request is too large", 413, None, Mover.USER),
    ErrorKind("request_timeout", "The request took too long to arrive", 408, None, Mover.USER, can_retry=True),
    ErrorKind("bad_spec", "The link is not complete", 400, "resolving", Mover.USER),
    ErrorKind("unknown_provider", "There is no such repository type", 404, "resolving", Mover.USER),
    ErrorKind("not_found", "There is nothing under this address", 404, None, Mover.USER),
    ErrorKind("forbidden", "This is not allowed", 403, None, Mover.USER),
    ErrorKind("cross_site", "Another web site asked for this launch", 403, None, Mover.USER),
    ErrorKind("unknown_host", "The server is not known under this name", 421, None, Mover.USER),
    ErrorKind("start_token_required", "The start token is needed", 401, None, Mover.USER),
    ErrorKind("unauthorized", "A valid service token is needed", 401, None, Mover.OPERATOR),
    ErrorKind("idempotency_mismatch", "The Idempotency-Key was used with another request", 422, None, Mover.USER),
    ErrorKind("idempotency_key_too_short", "The Idempotency-Key is too easy to guess", 422, None, Mover.USER),
    ErrorKind("conflict", "The thing is in another state by now", 409, None, Mover.USER),
    ErrorKind("cancelled", "It was cancelled", 409, None, Mover.USER, can_retry=True),
    ErrorKind("abandoned", "Nobody was watching any more", 409, None, Mover.USER, can_retry=True),
    # Resolving
    ErrorKind("ref_not_found", "The repository or ref was not found", 404, "resolving", Mover.USER),
    ErrorKind("address_not_allowed", "The address may not be reached from here", 403, "resolving", Mover.USER),
    ErrorKind("banned", "The repository may not be launched here", 403, "resolving", Mover.OPERATOR),
    ErrorKind(
        "provider_unavailable",
        "The repository's host does not answer as it should",
        502,
        "resolving",
        Mover.UPSTREAM,
        can_retry=True,
        retry_after_seconds=30,
    ),
    ErrorKind(
        "rate_limited",
        "The repository's host limits how often it may be asked",
        503,
        "resolving",
        Mover.UPSTREAM,
        can_retry=True,
        retry_after_seconds=300,
    ),
    # Building
    ErrorKind("build_failed", "The build failed", 422, "building", Mover.AUTHOR),
    ErrorKind(
        "unsupported_repository",
        "This repository needs another kind of builder",
        422,
        "building",
        Mover.AUTHOR,
    ),
    ErrorKind(
        "python_unavailable",
        "The Python that the repository asks for is not available",
        422,
        "building",
        Mover.AUTHOR,
    ),
    ErrorKind("repository_too_large", "The repository is too large", 422, "building", Mover.AUTHOR),
    ErrorKind("fetch_failed", "The repository could not be fetched", 502, "building", Mover.UPSTREAM, can_retry=True),
    ErrorKind("build_timeout", "The build took too long", 504, "building", Mover.AUTHOR),
    ErrorKind("build_out_of_memory", "The build ran out of memory", 422, "building", Mover.AUTHOR),
    ErrorKind("build_stalled", "The build stands still", 504, "building", Mover.AUTHOR),
    ErrorKind(
        "build_unschedulable",
        "No node has room for the build",
        503,
        "building",
        Mover.OPERATOR,
        can_retry=True,
        retry_after_seconds=120,
    ),
    ErrorKind(
        "build_quota_exceeded",
        "The builds' namespace has no room left",
        503,
        "building",
        Mover.OPERATOR,
        can_retry=True,
        retry_after_seconds=120,
    ),
    ErrorKind("builder_image_unavailable", "The builder's own image can't be pulled", 502, "building", Mover.OPERATOR),
    ErrorKind("build_evicted", "The build was evicted from its node", 503, "building", Mover.OPERATOR, can_retry=True),
    ErrorKind(
        "engine_failed", "The container engine could not do its part", 502, "building", Mover.OPERATOR, can_retry=True
    ),
    ErrorKind("push_denied", "The registry refused the image", 502, "building", Mover.OPERATOR),
    ErrorKind(
        "executor_unavailable",
        "What runs the builds does not answer",
        503,
        "building",
        Mover.OPERATOR,
        can_retry=True,
        retry_after_seconds=60,
    ),
    ErrorKind("build_lost", "The build vanished", 500, "building", Mover.OPERATOR, can_retry=True),
    ErrorKind("build_stopped", "The operator stopped the build", 409, "building", Mover.OPERATOR, can_retry=True),
    ErrorKind(
        "build_queue_full",
        "Too many builds are waiting",
        503,
        "building",
        Mover.OPERATOR,
        can_retry=True,
        retry_after_seconds=120,
    ),
    ErrorKind(
        "builder_unavailable",
        "The builder does not answer",
        503,
        "building",
        Mover.OPERATOR,
        can_retry=True,
        retry_after_seconds=30,
    ),
    ErrorKind(
        "registry_unavailable",
        "The image registry does not answer",
        503,
        "building",
        Mover.OPERATOR,
        can_retry=True,
        retry_after_seconds=60,
    ),
    # Launching
    ErrorKind(
        "quota_exceeded",
        "No seat became free in time",
        503,
        "launching",
        Mover.OPERATOR,
        can_retry=True,
        retry_after_seconds=120,
    ),
    ErrorKind(
        "hub_unavailable",
        "JupyterHub does not answer",
        503,
        "launching",
        Mover.OPERATOR,
        can_retry=True,
        retry_after_seconds=60,
    ),
    ErrorKind(
        "hub_busy",
        "JupyterHub has too much to do",
        503,
        "launching",
        Mover.OPERATOR,
        can_retry=True,
        retry_after_seconds=120,
    ),
    ErrorKind("hub_refused", "JupyterHub refused to start the server", 502, "launching", Mover.OPERATOR),
    ErrorKind("hub_token_refused", "JupyterHub does not accept our token", 502, "launching", Mover.OPERATOR),
    ErrorKind("resource_class_not_offered", "No launch may ask for that resource class", 422, "launching", Mover.USER),
    ErrorKind("unknown_resource_class", "There is no such resource class", 422, "launching", Mover.OPERATOR),
    ErrorKind("image_pull_failed", "The image can't be pulled", 502, "launching", Mover.OPERATOR, can_retry=True),
    ErrorKind("image_pull_denied", "The cluster may not pull the image", 502, "launching", Mover.OPERATOR),
    ErrorKind(
        "image_pull_unreachable",
        "The cluster does not reach the image registry",
        502,
        "launching",
        Mover.OPERATOR,
        can_retry=True,
        retry_after_seconds=60,
    ),
    ErrorKind(
        "image_pull_timeout",
        "Pulling the image took too long",
        504,
        "launching",
        Mover.OPERATOR,
        can_retry=True,
        retry_after_seconds=60,
    ),
    ErrorKind(
        "server_unschedulable",
        "No node has room for the server",
        503,
        "launching",
        Mover.OPERATOR,
        can_retry=True,
        retry_after_seconds=120,
    ),
    ErrorKind(
        "server_quota_exceeded",
        "The servers' namespace has no room left",
        503,
        "launching",
        Mover.OPERATOR,
        can_retry=True,
        retry_after_seconds=120,
    ),
    ErrorKind(
        "spawner_unavailable",
        "JupyterHub does not reach what it starts servers with",
        503,
        "launching",
        Mover.OPERATOR,
        can_retry=True,
        retry_after_seconds=60,
    ),
    ErrorKind("server_not_set_up", "The node could not set the server up", 502, "launching", Mover.OPERATOR, True),
    ErrorKind("server_evicted", "The server was evicted from its node", 503, "launching", Mover.OPERATOR, True),
    ErrorKind("server_out_of_memory", "The server ran out of memory as it started", 502, "launching", Mover.AUTHOR),
    ErrorKind("server_port_closed", "The server runs and does not answer", 504, "launching", Mover.AUTHOR),
    ErrorKind("server_not_protected", "The server does not keep its token", 502, "launching", Mover.AUTHOR),
    ErrorKind("server_start_failed", "The server could not start", 502, "launching", Mover.AUTHOR),
    ErrorKind(
        "server_start_timeout",
        "The server took too long to start",
        504,
        "launching",
        Mover.AUTHOR,
        can_retry=True,
    ),
    ErrorKind(
        "launcher_unavailable",
        "The launcher does not answer",
        503,
        "launching",
        Mover.OPERATOR,
        can_retry=True,
        retry_after_seconds=30,
    ),
    # Anything else that we did not foresee
    ErrorKind(
        "resolver_unavailable",
        "The resolver does not answer",
        503,
        "resolving",
        Mover.OPERATOR,
        can_retry=True,
        retry_after_seconds=30,
    ),
    ErrorKind(
        "redis_unavailable",
        "Redis does not answer",
        503,
        None,
        Mover.OPERATOR,
        can_retry=True,
        retry_after_seconds=5,
    ),
    ErrorKind(
        "overloaded",
        "There are too many connections at the moment",
        503,
        None,
        Mover.OPERATOR,
        can_retry=True,
        retry_after_seconds=10,
    ),
    ErrorKind("launch_timeout", "The launch took too long", 504, None, Mover.OPERATOR, can_retry=True),
    ErrorKind("internal", "Something went wrong on our side", 500, None, Mover.OPERATOR, can_retry=True),
    ErrorKind("unknown", "Something went wrong", 500, None, Mover.OPERATOR, can_retry=True),
]

KINDS: dict[str, ErrorKind] = {kind.code: kind for kind in _KINDS}
AUTHOR_CODES = frozenset(kind.code for kind in _KINDS if kind.mover is Mover.AUTHOR)
"""Codes that only the repository's author can do something about: a failure worth remembering."""


class BinderyError(Exception):
    """An error with a code from the closed list; `detail` is a plain sentence for whoever reads it.

    Raises `KeyError` for a code that is not in the list.
    """

    def __init__(
        self,
        code: str,
        detail: str = "",
        *,
        retry_after_seconds: float | None = None,
        extra: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail or KINDS[code].title)
        self.kind = KINDS[code]
        self.detail = detail or f"{self.kind.title}."
        self.retry_after_seconds = retry_after_seconds or self.kind.retry_after_seconds
        self.extra = extra or {}

    @property
    def code(self) -> str:
        return self.kind.code

    @property
    def problem(self) -> Problem:
        kind = self.kind
        return Problem(
            title=kind.title,
            status=kind.status,
            detail=self.detail,
            code=kind.code,
            phase=kind.phase,
            whose_move=kind.mover,
            can_retry=kind.can_retry,
            retry_after_seconds=self.retry_after_seconds,
        )

    @classmethod
    def of(cls, problem: Problem) -> Self:
        """The exception that a problem from another service stands for; codes unknown here become `unknown`."""
        code = problem.code if problem.code in KINDS else "unknown"
        return cls(code, problem.detail, retry_after_seconds=problem.retry_after_seconds)
