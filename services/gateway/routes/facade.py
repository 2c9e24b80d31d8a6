"""BinderHub's own addresses, for programs that know them: Thebe, and the JavaScript client of BinderHub's pages."""

import json

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.common.models import Spec
from services.common.models.errors import BinderyError
from services.common.redis.client import REDIS_PY_UNAVAILABLE
from services.common.service.logging import get_logger
from services.common.web.incoming import is_head
from services.gateway.context import GatewayContext
from services.gateway.edge.build_tokens import check_build_token
from services.gateway.edge.request_scope import base_url, client_ip, refuse_cross_site, refuse_unnamed_page
from services.gateway.edge.sessions import principal
from services.gateway.launches.addresses.launch_links import is_broken, mended_spec
from services.gateway.launches.facade_client import FacadeClient
from services.gateway.launches.repository_types import repository_type, sites_of
from services.gateway.routes.dependencies import Context
from services.gateway.streaming.launch_stream import LaunchPosition
from services.gateway.streaming.stream_responses import refused_stream

log = get_logger(__name__)
router = APIRouter(include_in_schema=False)


@router.get("/build/{provider}/{_spec:path}")
async def build(request: Request, provider: str, context: Context) -> Response:
    """Launch a link and follow it, as BinderHub's event stream. Always 200: an error is an event.

    Clients of BinderHub take other statuses for the end, and show no message. HEAD gets headers, and starts nothing.
    """
    if is_head(request):
        return context.streams.facade(LaunchPosition(launch_id=""))

    try:
        position = await _launch_to_follow(request, provider, context)
    except BinderyError as error:
        return refused_stream(error)
    except REDIS_PY_UNAVAILABLE as error:
        log.warning("redis_away", doing="launch", error=str(error))
        return refused_stream(BinderyError("redis_unavailable"))
    except Exception as error:
        log.exception("launch_refused", error=str(error))
        return refused_stream(BinderyError("internal"))
    return context.streams.facade(position)


async def _launch_to_follow(request: Request, provider: str, context: GatewayContext) -> LaunchPosition:
    """Return the position to follow from: in the launch that the client resumes, or at the start of another one.

    Raise `BinderyError` if the request may not launch anything, or does not name anything that could be launched.
    """
    if "text/event-stream" not in request.headers.get("accept", ""):
        raise BinderyError("bad_request", "Missing Accept header: text/event-stream")

    refuse_cross_site(request)
    raw_spec = _raw_tail(request, f"/build/{provider}/")
    jti = ""
    token = request.query_params.get("build_token")
    if token:
        jti = check_build_token(request, context.settings, provider, raw_spec, token)
    else:
        refuse_unnamed_page(request)

    client = FacadeClient(
        launches=context.launches,
        principal=principal(request),
        client_ip=client_ip(request),
        launch_host=base_url(request),
    )
    position = LaunchPosition.parse(request.headers.get("last-event-id", ""))
    if position and await client.may_follow(position.launch_id):
        return position  # before the resolver is asked: a launch that goes on needs none, and it may be away

    spec = await _require_spec(context, provider, raw_spec)
    spec = await _mended(context, spec)
    if request.query_params.get("build_only", "").lower() == "true":
        raise BinderyError(
            "bad_request", "Building but not launching is not permitted: this gateway launches what it builds."
        )

    launch = await client.join_or_start(spec, jti) if jti else await client.start(spec)
    return LaunchPosition(launch_id=launch.launch_id)


async def _require_spec(context: GatewayContext, provider: str, raw_spec: str) -> Spec:
    """Return the spec of a request. Raise `BinderyError` for a spec that is too long, or an unknown provider."""
    try:
        spec = Spec(provider=provider, spec=raw_spec.rstrip("/"))
    except ValueError as error:
        raise BinderyError("bad_spec", "The link is too long.") from error
    if provider not in await context.providers.ids():
        raise BinderyError("unknown_provider", f"No provider found for prefix {provider}")
    return spec


async def _mended(context: GatewayContext, spec: Spec) -> Spec:
    """Return the spec that was meant, if a part of its URL was decoded on the way, or its slashes were merged."""
    if not is_broken(spec.spec):
        return spec
    types = await context.repository_types()
    mended = mended_spec(repository_type(types, spec.provider), spec.spec, sites_of(types))
    return spec.updated(spec=mended) if mended else spec


def _raw_tail(request: Request, prefix: str) -> str:
    """Return the raw path behind `prefix`, percent-encoded as the client sent it."""
    raw_path: bytes = request.scope["raw_path"].partition(b"?")[0]
    return raw_path.decode("latin-1").partition(prefix)[2]


@router.get("/api/repoproviders")
async def repoproviders(context: Context) -> Response:
    """Return the repository types that can be launched, in BinderHub's shape: without our `sites`."""
    configs = [
        {name: part for name, part in config.items() if name != "sites"} for config in await context.providers.all()
    ]
    return Response(json.dumps(configs), media_type="application/json")
