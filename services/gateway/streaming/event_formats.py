"""What streams say: our own format (v1) and BinderHub's (the façade)."""

import json
from typing import Any

from services.common.models import Launch, Phase, Server
from services.common.streams.topic_stream import HIDDEN

_ENDS = {Phase.BUILT, Phase.FAILED, Phase.CANCELLED, Phase.UNKNOWN}


def _bytes(event: dict[str, Any]) -> bytes:
    return json.dumps(event, separators=(", ", ": ")).encode()


def render_v1(event: dict[str, Any], spliced: bool) -> bytes | None:
    """An event in the v1 format. The end of a spliced topic is not told: the launch tells what it meant."""
    if spliced and event.get("terminal") and event["phase"] in _ENDS:
        return None
    shown = {name: value for name, value in event.items() if name not in HIDDEN}
    if opens := event.get("opens"):
        shown["build_id" if opens["kind"] == "b" else "server_id"] = opens["id"]
    return _bytes(shown)


def render_facade(event: dict[str, Any], spliced: bool) -> bytes | None:
    """An event as BinderHub would send it, or None where BinderHub has no such event."""
    if spliced and event.get("terminal") and event["phase"] in _ENDS:
        return None
    phase, message = event["phase"], event.get("message", "")
    if not message:
        return None
    if phase in {Phase.GAP, Phase.RESOLVING}:
        phase = Phase.UNKNOWN
    shown: dict[str, Any] = {"phase": phase, "message": message}
    if image := event.get("image_name"):
        shown = {"phase": phase, "imageName": image, "message": message}
    if queue := event.get("queue"):
        shown["queue"] = queue
    return _bytes(shown)


def launch_facts(launch: Launch, server: Server) -> dict[str, Any]:
    """What BinderHub tells of a server that is ready, from the launch and the server's record."""
    repo = launch.repo
    return {
        "message": f"server running at {server.url}\n",
        "image": launch.image,
        "repo_url": repo.repo_url if repo else "",
        "token": server.token,
        "binder_ref_url": repo.ref_url if repo else "",
        "binder_launch_host": launch.launch_host,
        "binder_request": f"v2/{launch.spec.provider}/{launch.spec.spec}",
        "binder_persistent_request": f"v2/{launch.spec.provider}/{repo.resolved_spec if repo else launch.spec.spec}",
        "binder_client_ip": launch.client_ip,
        "url": server.url,
    }


def facade_failure(launch: Launch) -> dict[str, Any]:
    """BinderHub's `failed` event for a launch that failed: with the words that its clients look for."""
    error, key = launch.error, f"{launch.spec.provider}:{launch.spec.spec}"
    if error is None:
        return {"phase": "failed", "message": "The launch failed.\n"}
    if error.has_code("ref_not_found"):
        message = f"Could not resolve ref for {key}. Double check your URL and that your repo is public."
        return {"phase": "failed", "message": f"{message} {error.detail}\n", "code": error.code}
    if error.has_code("unknown_provider"):
        return {
            "phase": "failed",
            "message": f"No provider found for prefix {launch.spec.provider}\n",
            "code": error.code,
        }
    if error.has_code("quota_exceeded"):
        return {"phase": "failed", "message": f"Too many users on this BinderHub! {error.detail}\n", "code": error.code}
    failed: dict[str, Any] = {"phase": "failed", "message": f"{error.detail}\n", "code": error.code}
    if error.phase == "resolving" and not error.has_code("bad_spec"):
        failed["message"] = f"Error resolving ref for {key}: {error.detail}\n"
    if error.phase == "launching" or error.has_code("internal", "unknown"):
        failed["status_code"] = 500
    return failed


def sse(event: dict[str, Any], event_id: str = "") -> bytes:
    """One event as a block of an event stream."""
    prefix = f"id: {event_id}\n" if event_id else ""
    return f"{prefix}data: {json.dumps(event)}\n\n".encode()
