"""The v1 API: builds, their logs and events, and the queue that they wait in."""

from typing import Annotated

from fastapi import APIRouter, Header, Path, Request, Response, status
from pydantic import Field

from services.common.models import Build, BuildQueue, Launch, LaunchOptions, LaunchState, Spec
from services.common.models.errors import BinderyError
from services.common.models.ids import launch_ref, new_launch_id
from services.common.records.stored_record import is_public
from services.common.redis.keys import Kind, Topic
from services.common.service.clock import clock
from services.common.web.problems import RESPONSES
from services.gateway.context import GatewayContext
from services.gateway.edge.request_scope import base_url, client_ip
from services.gateway.edge.sessions import principal
from services.gateway.launches.launch_checks import requester_id, start_build_only
from services.gateway.routes.dependencies import Context, OperatorToken
from services.gateway.routes.logs import Excerpt, log_response

router = APIRouter(prefix="/api/v1", tags=["builds"], responses=RESPONSES)

BuildName = Annotated[str, Path(pattern=r"^[0-9a-f]{24}-[0-9]{1,9}$", description="`<image>-<attempt>`")]


class CreateBuildRequest(Spec):
    """The body of `POST /api/v1/builds`."""

    rebuild: str | None = Field(None, max_length=64, description="The failed build to build again.")


async def _require_visible(context: GatewayContext, build_id: str, request: Request) -> None:
    """Refuse a build unless everybody may read it, as its repository is public, or the client has requested it alone.

    The build's record says so; if that is gone, its log, which may outlive it.

    Raise `BinderyError("not_found")`.
    """
    stored_record = await context.common.records.read(Topic(Kind.BUILD, build_id))
    is_visible = is_public(stored_record) if stored_record else await context.common.logs.is_public(build_id)
    is_own = stored_record is not None and stored_record.get("detached") == requester_id(principal(request))
    if not is_visible and not is_own:
        raise BinderyError("not_found", f"There is no build {build_id}, or it was too long ago.")


@router.post("/builds", status_code=status.HTTP_202_ACCEPTED)
async def create_build(
    build_request: CreateBuildRequest, request: Request, response: Response, context: Context
) -> Build:
    """Build a repository's image, or join the build that is under way, and launch nothing. Asking again is safe.

    It is refused as a launch would be: for a banned repository, by a hook of the operator's, and while no server could
    be started from it. 200 if there is nothing to wait for: the image exists (`build_id` may be null), or the build
    failed recently.
    """
    await context.providers.require(build_request.provider)

    # A build on its own passes the checks of a launch, so it is described as one; no record of it is written.
    launch_id = new_launch_id()
    launch = Launch(
        launch_id=launch_id,
        launch_ref=launch_ref(launch_id),
        spec=Spec(provider=build_request.provider, spec=build_request.spec.rstrip("/")),
        principal=principal(request),
        options=LaunchOptions(rebuild=build_request.rebuild, detached=True, build_only=True),
        state=LaunchState.RESOLVING,
        created_at=clock.now(),
        client_ip=client_ip(request),
        launch_host=base_url(request),
    )
    build = await start_build_only(launch, context.backends, context.settings)

    if not build.is_live:
        response.status_code = status.HTTP_200_OK
    if build.build_id:
        response.headers["Location"] = f"/api/v1/builds/{build.build_id}"
    return build


@router.get("/builds/{build_id}")
async def get_build(build_id: BuildName, request: Request, context: Context) -> Build:
    """Return one build: an attempt at an image. While it waits for a builder, `queue` has its position."""
    await _require_visible(context, build_id, request)
    reply = await context.backends.ask_builder("GET", f"/builds/{build_id}")
    return Build.model_validate_json(reply.body)


@router.get("/builds/{build_id}/log", response_class=Response)
async def get_log(build_id: BuildName, request: Request, context: Context, excerpt: Excerpt) -> Response:
    """Return the build's log so far: as text, or as JSON lines for clients that accept `application/x-ndjson`."""
    await _require_visible(context, build_id, request)
    return await log_response(context, build_id, excerpt)


@router.get("/builds/{build_id}/events", response_class=Response)
async def follow_build(
    build_id: BuildName,
    request: Request,
    context: Context,
    last_event_id: Annotated[str, Header(max_length=200)] = "",
) -> Response:
    """Follow the build's events as they happen (`text/event-stream`), to its end; `Last-Event-ID` resumes."""
    await _require_visible(context, build_id, request)
    return context.streams.build(build_id, last_event_id)


@router.delete("/builds/{build_id}", status_code=status.HTTP_202_ACCEPTED)
async def cancel_build(
    build_id: BuildName, request: Request, response: Response, context: Context, operator_token: OperatorToken = ""
) -> None:
    """Cancel a build. 204: it has ended. 202: it was asked to end. 409: it had ended before, or others wait for it.

    The operator, with their token, may also cancel a build that others wait for.
    """
    await _require_visible(context, build_id, request)
    reply = await context.backends.ask_builder(
        "DELETE",
        f"/builds/{build_id}",
        params={"asker": requester_id(principal(request))},
        operator_token=operator_token,
    )
    response.status_code = reply.status


@router.get("/queue")
async def get_queue(context: Context, operator_token: OperatorToken = "") -> BuildQueue:
    """Return the queue of builds: waiting and running builds, and how many may run."""
    reply = await context.backends.ask_builder("GET", "/queue", operator_token=operator_token)
    return BuildQueue.model_validate_json(reply.body)
