"""The builder's HTTP: builds are asked for, read, followed, left and cancelled."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request, Response, status
from starlette.responses import StreamingResponse

from services.builder.queue.builds import Builds
from services.builder.queue.log_excerpt import POSITION_HEADER, Part
from services.builder.settings import BuilderSettings
from services.common.models import Build, BuildQueue, BuildRequest
from services.common.models.errors import BinderyError
from services.common.streams.positions import TOPIC_START, resume_point
from services.common.streams.topic_stream import AwaitableListener
from services.common.web.auth import OPERATOR_HEADER, is_operator
from services.common.web.problems import RESPONSES

router = APIRouter(responses=RESPONSES)


async def builds_of(request: Request) -> Builds:
    """The builds of this process."""
    found: Builds = request.app.state.builds
    return found


async def by_operator(
    request: Request, token: Annotated[str, Header(alias=OPERATOR_HEADER, max_length=1000)] = ""
) -> bool:
    """Whether the operator asks. Raises `BinderyError("forbidden")` for a token that is not the operator's."""
    settings: BuilderSettings = request.app.state.settings
    return is_operator(settings.operator_token, token)


TheBuilds = Annotated[Builds, Depends(builds_of)]
ByOperator = Annotated[bool, Depends(by_operator)]


@router.post("/builds", status_code=status.HTTP_202_ACCEPTED)
async def create_build(asked: BuildRequest, builds: TheBuilds, response: Response) -> Build:
    """Build the image of a resolved repository, or join the build that is already on its way.

    200 where there is nothing to wait for: an image that is there, or a failure that is remembered.
    """
    build = await builds.placed(await builds.ensure(asked))
    if not build.is_live:
        response.status_code = status.HTTP_200_OK
    if build.build_id:  # else someone else built the image: there is nothing to read or follow
        response.headers["Location"] = f"/builds/{build.build_id}"
    return build


@router.get("/builds/{build_id}")
async def get_build(build_id: str, builds: TheBuilds) -> Build:
    """One build; while it waits for a slot, with its place in the queue."""
    return await builds.read(build_id)


@router.get("/builds/{build_id}/log")
async def get_log(
    build_id: str,
    request: Request,
    builds: TheBuilds,
    after: Annotated[str, Query(max_length=80)] = "",
    lines: int = 0,
    form: Annotated[str, Query(alias="format", pattern="^(text|jsonl)?$")] = "",
) -> Response:
    """What a build has said so far: as text, or as JSON lines (`format=jsonl`, or by Accept).

    `after` is a position: of a JSON line, or of the answer before, in its header Bindery-Log-Position. `lines` are how
    many from there, or, where it is negative, the last so many of those.
    """
    try:
        found = await builds.log(build_id, Part(after, lines))
    except ValueError as error:
        raise BinderyError("bad_request", f"after={after!r} is no position in a log.") from error
    headers = {POSITION_HEADER: found[-1].position if found else after}
    if form == "jsonl" or (not form and "application/x-ndjson" in request.headers.get("accept", "")):
        return Response("".join(line.json for line in found), headers=headers, media_type="application/x-ndjson")
    text = "".join(line.message for line in found)
    return Response(text, headers=headers, media_type="text/plain; charset=utf-8")


@router.get("/builds/{build_id}/events")
async def follow_build(
    build_id: str, request: Request, builds: TheBuilds, last_event_id: Annotated[str, Header(max_length=200)] = ""
) -> Response:
    """What happens to a build, as it happens (`text/event-stream`), until its end. `Last-Event-ID` resumes."""
    await builds.read(build_id)
    position = resume_point(build_id, last_event_id) or TOPIC_START
    settings: BuilderSettings = request.app.state.settings

    async def body() -> AsyncIterator[bytes]:
        listener = AwaitableListener()
        async with contextlib.aclosing(builds.events(build_id).chunks(listener, position)) as chunks:
            async for chunk in chunks:
                if chunk is not None:
                    yield chunk
                    continue
                while not listener.has_news:
                    try:
                        async with asyncio.timeout(settings.keepalive_seconds):
                            await listener.wait()
                    except TimeoutError:
                        yield b":keepalive\n\n"

    return StreamingResponse(body(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


@router.delete("/builds/{build_id}", status_code=status.HTTP_202_ACCEPTED)
async def cancel_build(
    build_id: str,
    builds: TheBuilds,
    operator: ByOperator,
    response: Response,
    asker: Annotated[str, Query(max_length=64)] = "",
) -> None:
    """Cancel a build: 204 when it has ended, 202 when its worker is asked to stop it.

    409 when it had ended before, or while launches wait for it, or others than the `asker` want it for itself; the
    operator may cancel it then too, and launches fail.
    """
    if await builds.cancel(build_id, by_operator=operator, asker=asker):
        response.status_code = status.HTTP_204_NO_CONTENT


@router.delete("/builds/{build_id}/waiters/{launch_ref}", status_code=status.HTTP_204_NO_CONTENT)
async def leave_build(build_id: str, launch_ref: str, builds: TheBuilds, stop: bool = True) -> None:
    """A launch waits no more; with `stop`, a build that nobody waits for ends after a grace."""
    await builds.leave(build_id, launch_ref, stop=stop)


@router.get("/queue")
async def get_queue(builds: TheBuilds, operator: ByOperator) -> BuildQueue:
    """How the queue of builds stands. The names of the workers are for the operator."""
    return await builds.queue(with_names=operator)
