"""The closed list of error codes, and what is always true of each."""

from dataclasses import dataclass
from typing import Literal, cast

from services.common.models.base import OpenEnum

ErrorCode = Literal[
    "bad_request",
    "request_too_large",
    "request_timeout",
    "bad_spec",
    "unknown_provider",
    "not_found",
    "forbidden",
    "cross_site",
    "unknown_host",
    "start_token_required",
    "unauthorized",
    "idempotency_mismatch",
    "idempotency_key_too_short",
    "conflict",
    "cancelled",
    "abandoned",
    "server_ended",
    "ref_not_found",
    "address_not_allowed",
    "banned",
    "provider_unavailable",
    "rate_limited",
    "build_failed",
    "unsupported_repository",
    "python_unavailable",
    "repository_too_large",
    "fetch_failed",
    "build_timeout",
    "build_out_of_memory",
    "build_stalled",
    "build_unschedulable",
    "build_quota_exceeded",
    "builder_image_unavailable",
    "build_evicted",
    "engine_failed",
    "push_denied",
    "executor_unavailable",
    "build_lost",
    "build_stopped",
    "build_queue_full",
    "builder_unavailable",
    "registry_unavailable",
    "quota_exceeded",
    "hub_unavailable",
    "hub_busy",
    "hub_refused",
    "hub_token_refused",
    "resource_class_not_offered",
    "unknown_resource_class",
    "image_pull_failed",
    "image_pull_denied",
    "image_pull_unreachable",
    "image_pull_timeout",
    "server_unschedulable",
    "server_quota_exceeded",
    "spawner_unavailable",
    "server_not_set_up",
    "server_evicted",
    "server_out_of_memory",
    "server_port_closed",
    "server_not_protected",
    "server_start_failed",
    "server_start_timeout",
    "server_unreachable",
    "launcher_unavailable",
    "resolver_unavailable",
    "redis_unavailable",
    "overloaded",
    "gateway_unavailable",
    "launch_timeout",
    "record_unreadable",
    "launch_lost",
    "internal",
    "unknown",
]
"""Every code that this release writes; a reader may meet others, written by a newer one."""


class Mover(OpenEnum):
    """Who can do something about an error."""

    USER = "user"
    AUTHOR = "author"
    OPERATOR = "operator"
    UPSTREAM = "upstream"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class ErrorKind:
    """The fixed properties of an error code."""

    code: ErrorCode
    title: str
    status: int
    phase: str | None
    mover: Mover
    can_retry: bool = False
    retry_after_seconds: float | None = None


_KINDS: list[ErrorKind] = [
    # The request itself
    ErrorKind("bad_request", "The request is malformed", 400, None, Mover.USER),
    ErrorKind("request_too_large", "The request is too large", 413, None, Mover.USER),
    ErrorKind("request_timeout", "The request took too long to arrive", 408, None, Mover.USER, can_retry=True),
    ErrorKind("bad_spec", "The link is incomplete", 400, "resolving", Mover.USER),
    ErrorKind("unknown_provider", "Unknown repository type", 404, "resolving", Mover.USER),
    ErrorKind("not_found", "Nothing was found at this address", 404, None, Mover.USER),
    ErrorKind("forbidden", "This is not allowed", 403, None, Mover.USER),
    ErrorKind("cross_site", "Another website requested this launch", 403, None, Mover.USER),
    ErrorKind("unknown_host", "This server does not answer to that host name", 421, None, Mover.USER),
    ErrorKind("start_token_required", "The start token is required", 401, None, Mover.USER),
    ErrorKind("unauthorized", "A valid service token is required", 401, None, Mover.OPERATOR),
    ErrorKind(
        "idempotency_mismatch", "The Idempotency-Key was already used for a different request", 422, None, Mover.USER
    ),
    ErrorKind("idempotency_key_too_short", "The Idempotency-Key is too easy to guess", 422, None, Mover.USER),
    ErrorKind("conflict", "It has already moved on", 409, None, Mover.USER),
    ErrorKind("cancelled", "It was cancelled", 409, None, Mover.USER, can_retry=True),
    ErrorKind("abandoned", "Nobody was watching anymore", 409, None, Mover.USER, can_retry=True),
    ErrorKind("server_ended", "This server has ended", 424, None, Mover.USER),
    # Resolving
    ErrorKind("ref_not_found", "The repository or ref was not found", 404, "resolving", Mover.USER),
    ErrorKind("address_not_allowed", "This address may not be reached from here", 403, "resolving", Mover.USER),
    ErrorKind("banned", "The repository may not be launched here", 403, "resolving", Mover.OPERATOR),
    ErrorKind(
        "provider_unavailable",
        "The repository's host is not working properly",
        502,
        "resolving",
        Mover.UPSTREAM,
        can_retry=True,
        retry_after_seconds=30,
    ),
    ErrorKind(
        "rate_limited",
        "The repository's host is limiting our requests",
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
        "This builder does not support the repository",
        422,
        "building",
        Mover.AUTHOR,
    ),
    ErrorKind(
        "python_unavailable",
        "The Python version that the repository requests is not available",
        422,
        "building",
        Mover.AUTHOR,
    ),
    ErrorKind("repository_too_large", "The repository is too large", 422, "building", Mover.AUTHOR),
    ErrorKind("fetch_failed", "The repository could not be fetched", 502, "building", Mover.UPSTREAM, can_retry=True),
    ErrorKind("build_timeout", "The build took too long", 504, "building", Mover.AUTHOR),
    ErrorKind("build_out_of_memory", "The build ran out of memory", 422, "building", Mover.AUTHOR),
    ErrorKind("build_stalled", "The build stalled", 504, "building", Mover.AUTHOR),
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
        "The builds' namespace has reached its quota",
        503,
        "building",
        Mover.OPERATOR,
        can_retry=True,
        retry_after_seconds=120,
    ),
    ErrorKind("builder_image_unavailable", "The builder's own image can't be pulled", 502, "building", Mover.OPERATOR),
    ErrorKind("build_evicted", "The build was evicted from its node", 503, "building", Mover.OPERATOR, can_retry=True),
    ErrorKind("engine_failed", "The container engine failed", 502, "building", Mover.OPERATOR, can_retry=True),
    ErrorKind("push_denied", "The registry refused the image", 502, "building", Mover.OPERATOR),
    ErrorKind(
        "executor_unavailable",
        "The build backend does not answer",
        503,
        "building",
        Mover.OPERATOR,
        can_retry=True,
        retry_after_seconds=60,
    ),
    ErrorKind("build_lost", "The build disappeared", 500, "building", Mover.OPERATOR, can_retry=True),
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
        "JupyterHub is busy",
        503,
        "launching",
        Mover.OPERATOR,
        can_retry=True,
        retry_after_seconds=120,
    ),
    ErrorKind("hub_refused", "JupyterHub refused to start the server", 502, "launching", Mover.OPERATOR),
    ErrorKind("hub_token_refused", "JupyterHub does not accept our token", 502, "launching", Mover.OPERATOR),
    ErrorKind(
        "resource_class_not_offered", "That resource class is not available to launches", 422, "launching", Mover.USER
    ),
    ErrorKind("unknown_resource_class", "Unknown resource class", 422, "launching", Mover.OPERATOR),
    ErrorKind("image_pull_failed", "The image can't be pulled", 502, "launching", Mover.OPERATOR, can_retry=True),
    ErrorKind("image_pull_denied", "The cluster may not pull the image", 502, "launching", Mover.OPERATOR),
    ErrorKind(
        "image_pull_unreachable",
        "The cluster cannot reach the image registry",
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
        "The servers' namespace has reached its quota",
        503,
        "launching",
        Mover.OPERATOR,
        can_retry=True,
        retry_after_seconds=120,
    ),
    ErrorKind(
        "spawner_unavailable",
        "JupyterHub cannot reach its spawner's backend",
        503,
        "launching",
        Mover.OPERATOR,
        can_retry=True,
        retry_after_seconds=60,
    ),
    ErrorKind("server_not_set_up", "The node could not set up the server", 502, "launching", Mover.OPERATOR, True),
    ErrorKind("server_evicted", "The server was evicted from its node", 503, "launching", Mover.OPERATOR, True),
    ErrorKind("server_out_of_memory", "The server ran out of memory while starting", 502, "launching", Mover.AUTHOR),
    ErrorKind("server_port_closed", "The server is running but does not answer", 504, "launching", Mover.AUTHOR),
    ErrorKind("server_not_protected", "The server is not protected by its token", 502, "launching", Mover.AUTHOR),
    ErrorKind("server_start_failed", "The server could not start", 502, "launching", Mover.AUTHOR),
    ErrorKind(
        "server_start_timeout",
        "The server took too long to start",
        504,
        "launching",
        Mover.AUTHOR,
        can_retry=True,
    ),
    ErrorKind("server_unreachable", "The proxy does not lead to the server", 502, "launching", Mover.OPERATOR, True),
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
        "Too many connections at the moment",
        503,
        None,
        Mover.OPERATOR,
        can_retry=True,
        retry_after_seconds=10,
    ),
    ErrorKind(
        "gateway_unavailable",
        "This gateway is just starting, or about to end",
        503,
        None,
        Mover.OPERATOR,
        can_retry=True,
        retry_after_seconds=1,
    ),
    ErrorKind("launch_timeout", "The launch took too long", 504, None, Mover.OPERATOR, can_retry=True),
    ErrorKind(
        "record_unreadable",
        "This release can't read what is recorded of it",
        500,
        None,
        Mover.OPERATOR,
        can_retry=True,
    ),
    ErrorKind("launch_lost", "The launch was lost", 500, None, Mover.OPERATOR, can_retry=True),
    ErrorKind("internal", "Something went wrong on our side", 500, None, Mover.OPERATOR, can_retry=True),
    ErrorKind("unknown", "Something went wrong", 500, None, Mover.OPERATOR, can_retry=True),
]

KINDS: dict[str, ErrorKind] = {kind.code: kind for kind in _KINDS}
AUTHOR_CODES: frozenset[str] = frozenset(kind.code for kind in _KINDS if kind.mover is Mover.AUTHOR)
"""Codes that only the repository's author can do something about, so that the failure is remembered."""


def known_code(code: str, *, otherwise: ErrorCode = "unknown") -> ErrorCode:
    """Return `code` if this release knows it, else `otherwise`: a record or an answer may be a newer release's."""
    return cast("ErrorCode", code) if code in KINDS else otherwise
