"""The v1 API: builds and their logs."""

import json
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from services.common.models import Build
from services.common.problems import RESPONSES
from services.gateway.stages import Stages

router = APIRouter(prefix="/api/v1/builds", tags=["builds"], responses=RESPONSES)

BuildName = Annotated[str, Path(pattern=r"^[0-9a-f]{24}-\d{1,9}$", description="`<image>-<attempt>`")]


def _stages(request: Request) -> Stages:
    found: Stages = request.app.state.stages
    return found


@router.get("/{build_id}")
async def get_build(build_id: BuildName, request: Request) -> Build:
    """One build: an attempt at an image."""
    reply = await _stages(request).builder.call("GET", f"/builds/{build_id}")
    return Build.model_validate_json(reply.content)


@router.get("/{build_id}/log", response_class=Response)
async def get_log(build_id: BuildName, request: Request) -> Response:
    """What the build has said so far: as text, or as JSON lines for who accepts `application/x-ndjson`."""
    reply = await _stages(request).builder.call("GET", f"/builds/{build_id}/log")
    lines = list(_lines(reply.content))
    if "application/x-ndjson" in request.headers.get("accept", ""):
        shown = ({"phase": line["phase"], "message": line["message"]} for line in lines)
        return Response("".join(json.dumps(line) + "\n" for line in shown), media_type="application/x-ndjson")
    return Response("".join(line["message"] for line in lines), media_type="text/plain; charset=utf-8")


def _lines(log: bytes) -> Iterator[dict[str, Any]]:
    """The events that say something, and a `gap` where lines are missing: a log too long, or lost by Redis."""
    expected = 0
    for row in log.splitlines():
        _position, _number, before, _bytes, events = json.loads(row)
        if before > expected:
            yield {"phase": "gap", "message": f"{before - expected} lines are missing here.\n"}
        yield from (event for event in events[max(0, expected - before) :] if event.get("message"))
        expected = max(expected, before + len(events))
