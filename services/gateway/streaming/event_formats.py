"""The formats of a launch's stream: our own (v1), and BinderHub's, which the façade speaks."""

import json
from collections.abc import Mapping
from typing import Any

from sse_starlette import ServerSentEvent

from services.common.models import Launch, Phase, Server
from services.common.models.errors import BinderyError
from services.common.redis.keys import Kind
from services.common.streams.entries import StreamEvent, failed_event
from services.common.streams.event_format import INTERNAL_FIELDS, EventFormat

_ENDS = {Phase.BUILT, Phase.FAILED, Phase.CANCELLED, Phase.UNKNOWN}


def _encode(event: Mapping[str, Any]) -> bytes:
    return json.dumps(event, separators=(", ", ": ")).encode()


def _is_topics_end(event: StreamEvent) -> bool:
    """Return whether an event of a spliced topic only ends it; the launch's own events report the outcome."""
    return bool(event.get("terminal")) and event["phase"] in _ENDS


def render_v1(event: StreamEvent, is_spliced: bool) -> bytes | None:
    """Return an event in the v1 format, or None for the end of a spliced topic."""
    if is_spliced and _is_topics_end(event):
        return None

    fields: dict[str, Any] = {name: value for name, value in event.items() if name not in INTERNAL_FIELDS}
    if opens := event.get("opens"):
        id_field = "build_id" if opens["kind"] == Kind.BUILD else "server_id"
        fields[id_field] = opens["id"]
    return _encode(fields)


def render_facade(event: StreamEvent, is_spliced: bool) -> bytes | None:
    """Return an event as BinderHub would send it, or None if BinderHub has no such event."""
    message = event.get("message", "")
    if not message or (is_spliced and _is_topics_end(event)):
        return None

    phase = event["phase"]
    if phase in {Phase.GAP, Phase.RESOLVING}:
        phase = Phase.UNKNOWN
    fields: dict[str, Any] = {"phase": phase}
    if image := event.get("image_name"):
        fields["imageName"] = image
    fields["message"] = message
    if queue := event.get("queue"):
        fields["queue"] = queue
    return _encode(fields)


V1 = EventFormat("v1", render_v1)
FACADE = EventFormat("facade", render_facade)


def launch_facts(launch: Launch, server: Server) -> dict[str, Any]:
    """Return the fields of BinderHub's `ready` event, from the launch and the server's record."""
    repo = launch.repo
    spec = repo.resolved_spec if repo else launch.spec.spec

    return {
        "message": f"server running at {server.url}\n",
        "image": launch.image,
        "repo_url": repo.repo_url if repo else "",
        "token": server.token,
        "binder_ref_url": repo.ref_url if repo else "",
        "binder_launch_host": launch.launch_host,
        "binder_request": f"v2/{launch.spec.provider}/{launch.spec.spec}",
        "binder_persistent_request": f"v2/{launch.spec.provider}/{spec}",
        "binder_client_ip": launch.client_ip,
        "url": server.url,
    }


def facade_failure(launch: Launch) -> dict[str, Any]:
    """Return BinderHub's `failed` event for a launch that failed, with the sentences that its clients look for."""
    error = launch.error
    if error is None:
        return {"phase": "failed", "message": "The launch failed.\n"}

    key = f"{launch.spec.provider}:{launch.spec.spec}"
    failure: dict[str, Any] = {"phase": "failed", "message": f"{error.detail}\n", "code": error.code}
    if error.has_code("ref_not_found"):
        advice = "Double check your URL and that your repo is public."
        failure["message"] = f"Could not resolve ref for {key}. {advice} {error.detail}\n"
        return failure
    if error.has_code("unknown_provider"):
        failure["message"] = f"No provider found for prefix {launch.spec.provider}\n"
        return failure
    if error.has_code("quota_exceeded"):
        failure["message"] = f"Too many users on this BinderHub! {error.detail}\n"
        return failure

    if error.phase == "resolving" and not error.has_code("bad_spec"):
        failure["message"] = f"Error resolving ref for {key}: {error.detail}\n"
    if error.phase == "launching" or error.has_code("internal", "unknown"):
        failure["status_code"] = 500
    return failure


def sse(event: Mapping[str, Any], event_id: str = "", *, retry_ms: int | None = None) -> bytes:
    """Return one event as a block of an event stream. Only for events that each client gets in its own form.

    `retry_ms` is how long a client waits before it connects again.
    """
    return ServerSentEvent(json.dumps(event), id=event_id or None, retry=retry_ms, sep="\n").encode()


_LOST = BinderyError("launch_lost", "Redis has lost this launch, and no gateway goes on with it. Please launch again.")

LOST_V1 = sse(failed_event(_LOST.problem), retry_ms=5000)
"""The end of a lost launch. A client that connects again nevertheless does so after a pause."""
LOST_FACADE = sse({"phase": "failed", "message": f"{_LOST.detail}\n", "code": _LOST.code, "status_code": 500})
"""The same as BinderHub would send it."""
