"""HTTP routes of the builder: request, read, follow, leave and cancel builds."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request, Response, status
from starlette.responses import StreamingResponse

from services.builder.context import BuilderContext
from services.builder.queue.log_excerpt import POSITION_HEADER, LogExcerpt
from services.common.models import Build, BuildQueue, BuildRequest
from services.common.models.errors import BinderyError
from services.common.streams.positions import TOPIC_START, resume_point
from services.common.streams.topic_stream import AwaitableListener
from services.common.web.auth import OPERATOR_HEADER, is_operator
from services.common.web.problems import RESPONSES

router = APIRouter(responses=RESPONSES)


async def builder_context(request: Request) -> BuilderContext:
    """Return the context of this process."""
    context: BuilderContext = request.app.state.context
    return context


Context = Annotated[BuilderContext, Depends(builder_context)]


async def by_operator(
    context: Context, token: Annotated[str, Header(alias=OPERATOR_HEADER, max_length=1000)] = ""
) -> bool:
    """Return whether the operator sent the request.

    Raise `BinderyError("forbidden")` for a token that is not the operator's.
    """
    return is_operator(context.settings.operator_token, token)


ByOperator = Annotated[bool, Depends(by_operator)]


@router.post("/builds", status_code=status.HTTP_202_ACCEPTED)
async def create_build(build_request: BuildRequest, context: Context, response: Response) -> Build:
    """Build the image of a resolved repository, or join the build that is already under way.

    200 if there is nothing to wait for: the image exists, or the build failed recently.
    """
    build = await context.builds.with_queue_position(await context.builds.ensure(build_request))
    if not build.is_live:
        response.status_code = status.HTTP_200_OK
    if build.build_id:  # an image that was not built here has no build to read or follow
        response.headers["Location"] = f"/builds/{build.build_id}"
    return build


@router.get("/builds/{build_id}")
async def get_build(build_id: str, context: Context) -> Build:
    """Return one build; while it waits for a slot, with its position in the queue."""
    return await context.builds.read(build_id)


@router.get("/builds/{build_id}/log")
async def get_log(
    build_id: str,
    request: Request,
    context: Context,
    after: Annotated[str, Query(max_length=80)] = "",
    lines: int = 0,
    form: Annotated[str, Query(alias="format", pattern="^(text|jsonl)?$")] = "",
) -> Response:
    """Return a build's log so far: as text, or as JSON lines (`format=jsonl`, or by Accept).

    `after` is a position: of a JSON line, or from the header Bindery-Log-Position of an earlier reply. `lines` limits
    the reply to the first lines after it, or, if it is negative, to the last ones.
    """
    try:
        excerpt = await context.builds.log(build_id, LogExcerpt(after, lines))
    except ValueError as error:
        raise BinderyError("bad_request", f"after={after!r} is not a position in a log.") from error

    headers = {POSITION_HEADER: excerpt[-1].position if excerpt else after}
    if form == "jsonl" or (not form and "application/x-ndjson" in request.headers.get("accept", "")):
        return Response("".join(line.json for line in excerpt), headers=headers, media_type="application/x-ndjson")
    text = "".join(line.message for line in excerpt)
    return Response(text, headers=headers, media_type="text/plain; charset=utf-8")


@router.get("/builds/{build_id}/events")
async def follow_build(
    build_id: str, request: Request, context: Context, last_event_id: Annotated[str, Header(max_length=200)] = ""
) -> Response:
    """Stream the events of a build (`text/event-stream`) until its end. `Last-Event-ID` resumes."""
    await context.builds.read(build_id)
    position = resume_point(build_id, last_event_id) or TOPIC_START
    keepalive_seconds = context.settings.keepalive_seconds

    async def body() -> AsyncIterator[bytes]:
        listener = AwaitableListener()
        async with contextlib.aclosing(context.builds.events(build_id).chunks(listener, position)) as chunks:
            async for chunk in chunks:
                if chunk is not None:
                    yield chunk
                    continue

                # Nothing is new: wait, and show in between that the stream is alive.
                while not listener.has_news:
                    try:
                        async with asyncio.timeout(keepalive_seconds):
                            await listener.wait()
                    except TimeoutError:
                        yield b":keepalive\n\n"

    return StreamingResponse(body(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


@router.delete("/builds/{build_id}", status_code=status.HTTP_202_ACCEPTED)
async def cancel_build(
    build_id: str,
    context: Context,
    operator: ByOperator,
    response: Response,
    requester: Annotated[str, Query(alias="asker", max_length=64)] = "",
) -> None:
    """Cancel a build: 204 if it has ended, 202 if its worker was asked to stop it.

    409 if it had ended before, while launches wait for it, or if others than the `asker` have requested it by itself.
    The operator may cancel it in the latter two cases, too; launches fail then.
    """
    if await context.builds.cancel(build_id, by_operator=operator, requester=requester):
        response.status_code = status.HTTP_204_NO_CONTENT


@router.delete("/builds/{build_id}/waiters/{launch_ref}", status_code=status.HTTP_204_NO_CONTENT)
async def leave_build(build_id: str, launch_ref: str, context: Context, stop: bool = True) -> None:
    """Remove a launch from those that wait; with `stop`, a build that no launch waits for is stopped after a grace."""
    await context.builds.leave(build_id, launch_ref, stop=stop)


@router.get("/queue")
async def get_queue(context: Context, operator: ByOperator) -> BuildQueue:
    """Return the state of the queue of builds. The names of the workers are for the operator."""
    return await context.builds.queue(with_names=operator)
