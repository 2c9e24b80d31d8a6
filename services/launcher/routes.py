"""HTTP routes of the launcher: start, read and stop servers, and check for a seat."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response, status

from services.common.models import ResolvedRepo, Server, ServerRequest
from services.common.models.policy import RunningServer
from services.common.web.problems import RESPONSES
from services.launcher.context import LauncherContext
from services.launcher.running_servers import running_servers

router = APIRouter(responses=RESPONSES)


async def launcher_context(request: Request) -> LauncherContext:
    """Return the context of this process."""
    context: LauncherContext = request.app.state.context
    return context


Context = Annotated[LauncherContext, Depends(launcher_context)]


@router.post("/servers", status_code=status.HTTP_202_ACCEPTED)
async def create_server(server_request: ServerRequest, context: Context, response: Response) -> Server:
    """Start a launch's server, or return the one that was started for it."""
    server = await context.servers.start(server_request)
    response.headers["Location"] = f"/servers/{server.server_id}"
    return server


@router.post("/seats/check", status_code=status.HTTP_204_NO_CONTENT)
async def check_seat(repo: ResolvedRepo, context: Context, resource_class: str | None = None) -> None:
    """Check whether a launch of a repository would get a seat or a position in the queue. Neither is taken."""
    await context.servers.check(repo, resource_class)


@router.get("/servers")
async def get_servers(context: Context) -> list[RunningServer]:
    """Return the servers that run or start, with the links that they were launched by."""
    return await running_servers(context.common, context.seats)


@router.get("/servers/{server_id}")
async def get_server(server_id: str, context: Context) -> Server:
    """Return one server."""
    return await context.servers.read(server_id)


@router.delete("/servers", status_code=status.HTTP_202_ACCEPTED)
async def delete_server_of(
    launch_ref: str,
    repo_url: str,
    context: Context,
    attempt: int = 0,
    even_ready: bool = False,
    launch_epoch: int | None = None,
) -> None:
    """Cancel a launch's start that is under way, if the caller never learned the server's id.

    With `even_ready`, also remove a server that became ready although its launch did not. Nothing is done if the
    launch was handed to another owner since it had `launch_epoch`.
    """
    server_id = context.servers.id_for(repo_url, launch_ref, attempt)
    await context.servers.stop(server_id, even_ready=even_ready, launch_epoch=launch_epoch)


@router.delete("/servers/{server_id}", status_code=status.HTTP_202_ACCEPTED)
async def delete_server(server_id: str, context: Context, even_ready: bool = False) -> None:
    """Cancel a start that is under way; with `even_ready`, also remove a server that is ready."""
    await context.servers.stop(server_id, even_ready=even_ready)
