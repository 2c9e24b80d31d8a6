"""BinderHub's own addresses, for programs that know them: Thebe, and the JavaScript client of BinderHub's pages."""

import json

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.common.models import Spec
from services.common.models.errors import BinderyError
from services.common.redis.client import REDIS_UNREACHABLE
from services.common.service.logging import get_logger
from services.common.web.incoming import is_head
from services.gateway.edge.build_tokens import check
from services.gateway.edge.origins import base_url, client_ip, refuse_cross_site, refuse_unnamed_page
from services.gateway.edge.sessions import principal
from services.gateway.launches.facade_client import FacadeClient
from services.gateway.launches.launches import Launches
from services.gateway.streaming.launch_stream import Position
from services.gateway.streaming.stream_responses import StreamResponses, refused_stream

log = get_logger(__name__)
router = APIRouter(include_in_schema=False)


def raw_tail(request: Request, prefix: str) -> str:
    """What follows `prefix` in the raw path, percent-encoding as the client sent it."""
    raw: bytes = request.scope["raw_path"].partition(b"?")[0]
    return raw.decode("latin-1").partition(prefix)[2]


@router.get("/build/{provider}/{_spec:path}")
async def build(request: Request, provider: str) -> Response:
    """Launch a link and follow it, as BinderHub's event stream. Always 200: what is wrong is an event.

    Stock clients take any other status for the end, and show no message. HEAD gets its headers, and begins nothing.
    """
    if is_head(request):
        streams: StreamResponses = request.app.state.streams
        return streams.facade(Position(""))
    try:
        return await _launch(request, provider)
    except BinderyError as error:
        refused = error
    except REDIS_UNREACHABLE as error:
        log.warning("redis_away", doing="launch", error=str(error))
        refused = BinderyError("redis_unavailable")
    except Exception as error:
        log.exception("launch_refused", error=str(error))
        refused = BinderyError("internal")
    return refused_stream(refused)


async def _launch(request: Request, provider: str) -> Response:
    launches: Launches = request.app.state.launches
    streams: StreamResponses = request.app.state.streams
    if "text/event-stream" not in request.headers.get("accept", ""):
        raise BinderyError("bad_request", "Missing Accept header: text/event-stream")
    refuse_cross_site(request)
    raw = raw_tail(request, f"/build/{provider}/")
    jti = ""
    if token := request.query_params.get("build_token"):
        jti = check(request, request.app.state.settings, provider, raw, token)
    else:
        refuse_unnamed_page(request)
    try:
        spec = Spec(provider=provider, spec=raw.rstrip("/"))
    except ValueError as error:
        raise BinderyError("bad_spec", "The link is too long.") from error
    known = [item["id"] for item in await request.app.state.providers.all()]
    if provider not in known:
        raise BinderyError("unknown_provider", f"No provider found for prefix {provider}")
    if request.query_params.get("build_only", "").lower() == "true":
        raise BinderyError(
            "bad_request", "Building but not launching is not permitted: this gateway launches what it builds."
        )
    client = FacadeClient(launches, principal(request), client_ip(request), base_url(request))
    position = Position.parse(request.headers.get("last-event-id", ""))
    if position is None or not await client.may_follow(position.launch_id):
        position = Position((await client.join(spec, jti) if jti else await client.begin(spec)).launch_id)
    return streams.facade(position)


@router.get("/api/repoproviders")
async def repoproviders(request: Request) -> Response:
    """The repository types that there are."""
    return Response(json.dumps(await request.app.state.providers.all()), media_type="application/json")
