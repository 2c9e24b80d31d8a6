"""The builder's HTTP: builds are asked for, read, left and cancelled."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response, status

from services.builder.builds import Builds
from services.common.entries import BEGIN
from services.common.models import Build, BuildRequest
from services.common.problems import RESPONSES

router = APIRouter(responses=RESPONSES)


async def builds_of(request: Request) -> Builds:
    """The builds of this process."""
    found: Builds = request.app.state.builds
    return found


TheBuilds = Annotated[Builds, Depends(builds_of)]


@router.post("/builds", status_code=status.HTTP_202_ACCEPTED)
async def create_build(asked: BuildRequest, builds: TheBuilds, response: Response) -> Build:
    """Build the image of a resolved repository, or join the build that is already on its way."""
    build = await builds.ensure(asked)
    if build.build_id is None:  # an image that someone else built: there is nothing to follow
        response.status_code = status.HTTP_200_OK
    else:
        response.headers["Location"] = f"/builds/{build.build_id}"
    return build


@router.get("/builds/{build_id}")
async def get_build(build_id: str, builds: TheBuilds) -> Build:
    """One build."""
    return await builds.read(build_id)


@router.get("/builds/{build_id}/log")
async def get_log(build_id: str, builds: TheBuilds, after: Annotated[str, Query()] = BEGIN) -> Response:
    """What a build has said, as JSON lines of stored entries: position, number, lines before, bytes before, events."""
    entries = await builds.log(build_id, after)
    rows = (
        b'["%s",%d,%d,%d,%s]' % (entry.id.encode(), entry.number, entry.lines, entry.bytes_before, entry.payload)
        for entry in entries
    )
    return Response(b"\n".join(rows), media_type="application/x-ndjson")


@router.delete("/builds/{build_id}/waiters/{launch_ref}", status_code=status.HTTP_204_NO_CONTENT)
async def leave_build(build_id: str, launch_ref: str, builds: TheBuilds, stop: bool = True) -> None:
    """A launch waits no more; with `stop`, a build that nobody waits for ends after a grace."""
    await builds.leave(build_id, launch_ref, stop=stop)
