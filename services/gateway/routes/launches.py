"""The v1 API: launches."""

import hashlib
from typing import Annotated

from fastapi import APIRouter, Header, Request, Response, status
from pydantic import Field

from services.common.models import (
    Contract,
    GitCredential,
    Launch,
    LaunchOptions,
    Problem,
    Queue,
    ResolvedRepo,
    Server,
    Spec,
)
from services.common.models.errors import BinderyError
from services.common.web.problems import RESPONSES
from services.gateway.edge.request_scope import base_url, client_ip
from services.gateway.edge.sessions import principal
from services.gateway.launches.landing import landing_url
from services.gateway.routes.dependencies import Context
from services.gateway.routes.logs import Excerpt, log_response
from services.gateway.streaming.launch_stream import LaunchPosition

router = APIRouter(prefix="/api/v1/launches", tags=["launches"], responses=RESPONSES)


class LaunchRequest(Spec):
    """The body of `POST /api/v1/launches`."""

    path: str = Field("", max_length=4096, description="What to open in the server, below its address.")
    resource_class: str | None = Field(None, max_length=64, description="One of the resource classes on offer.")
    detached: bool = Field(False, description="Whether the launch goes on when nobody follows it.")
    rebuild: str | None = Field(None, max_length=64, description="The failed build to build again.")
    credential: GitCredential | None = Field(
        None, description="What reads a private repository: used for this launch alone, and never shown."
    )


class LaunchView(Contract):
    """A launch, as every client that has its id sees it.

    While its server is ready, it has `url` and `token`, and `open_url` for a browser: the address of the requested
    path, with the token.
    """

    launch_id: str
    state: str
    provider: str
    spec: str
    path: str
    repo: ResolvedRepo | None
    image: str | None
    build_id: str | None
    queue: Queue | None
    error: Problem | None
    created_at: float
    finished_at: float | None
    url: str | None = None
    token: str | None = None
    open_url: str | None = None
    expires: float | None = None
    idle_timeout_seconds: float | None = None
    server_state: str | None = None

    @classmethod
    def of(cls, launch: Launch, server: Server | None) -> "LaunchView":
        """Return the view of a launch and its server, if there is one."""
        view = cls(
            launch_id=launch.launch_id,
            state=launch.state,
            provider=launch.spec.provider,
            spec=launch.spec.spec,
            path=launch.options.path,
            repo=launch.repo,
            image=launch.image,
            build_id=launch.build_id,
            queue=launch.queue,
            error=launch.error,
            created_at=launch.created_at,
            finished_at=launch.finished_at,
            server_state=server.state if server else None,
        )

        if server is None or server.state != "ready" or launch.state != "ready":
            return view

        return view.updated(
            url=server.url,
            token=server.token,
            open_url=landing_url(server.url or "", server.token or "", launch.options.path),
            expires=server.expires,
            idle_timeout_seconds=server.idle_timeout_seconds,
        )


@router.post("", status_code=status.HTTP_202_ACCEPTED)
async def create_launch(
    launch_request: LaunchRequest,
    request: Request,
    response: Response,
    context: Context,
    idempotency_key: Annotated[str, Header(max_length=200)] = "",
) -> LaunchView:
    """Launch a repository. The same Idempotency-Key with the same body is the same launch, for 24 hours."""
    await context.providers.require(launch_request.provider)

    options = LaunchOptions(
        path=launch_request.path,
        resource_class=launch_request.resource_class,
        detached=launch_request.detached,
        rebuild=launch_request.rebuild,
    )
    launch, is_new = await context.launches.start(
        Spec(provider=launch_request.provider, spec=launch_request.spec.rstrip("/")),
        principal=principal(request),
        options=options,
        client_ip=client_ip(request),
        launch_host=base_url(request),
        idempotency_key=idempotency_key,
        body_hash=hashlib.sha256(launch_request.model_dump_json(exclude={"credential"}).encode()).hexdigest(),
        login=launch_request.credential,
    )

    response.headers["Location"] = f"/api/v1/launches/{launch.launch_id}"
    if not is_new:
        response.status_code = status.HTTP_200_OK
    return LaunchView.of(launch, await context.launches.server(launch))


@router.get("/{launch_id}")
async def get_launch(launch_id: str, request: Request, context: Context) -> LaunchView:
    """Return one launch."""
    launch = await context.launches.read(launch_id, principal(request))
    return LaunchView.of(launch, await context.launches.server(launch))


@router.get("/{launch_id}/log", response_class=Response)
async def get_launch_log(launch_id: str, request: Request, context: Context, excerpt: Excerpt) -> Response:
    """Return the log of the launch's build so far: that of a private repository is at this address alone."""
    launch = await context.launches.read(launch_id, principal(request))
    if not launch.build_id:
        raise BinderyError("not_found", "Nothing was built for this launch so far: there is no log.")
    return await log_response(context, launch.build_id, excerpt)


@router.get("/{launch_id}/events", response_class=Response)
async def follow_launch(
    launch_id: str, request: Request, context: Context, last_event_id: Annotated[str, Header(max_length=200)] = ""
) -> Response:
    """Follow the launch's events as they happen (`text/event-stream`); `Last-Event-ID` resumes a stream."""
    await context.launches.read(launch_id, principal(request))
    position = LaunchPosition.parse(last_event_id)
    if position is None or position.launch_id != launch_id:
        position = LaunchPosition(launch_id=launch_id)
    return context.streams.v1(position)


@router.delete("/{launch_id}", status_code=status.HTTP_202_ACCEPTED)
async def cancel_launch(launch_id: str, request: Request, context: Context) -> None:
    """Cancel a launch that is under way. 409 if it has ended."""
    await context.launches.cancel(launch_id, principal(request))
