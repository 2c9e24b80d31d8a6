"""The launcher's HTTP: servers are asked for, read and given up."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response, status

from services.common.models import ResolvedRepo, Server, ServerRequest
from services.common.web.problems import RESPONSES
from services.launcher.servers import Servers

router = APIRouter(responses=RESPONSES)


async def servers_of(request: Request) -> Servers:
    """The servers of this process."""
    found: Servers = request.app.state.servers
    return found


TheServers = Annotated[Servers, Depends(servers_of)]


@router.post("/servers", status_code=status.HTTP_202_ACCEPTED)
async def create_server(asked: ServerRequest, servers: TheServers, response: Response) -> Server:
    """Start a launch's server, or return the one that was started for it."""
    server = await servers.start(asked)
    response.headers["Location"] = f"/servers/{server.server_id}"
    return server


@router.post("/seats/check", status_code=status.HTTP_204_NO_CONTENT)
async def check_seat(repo: ResolvedRepo, servers: TheServers, resource_class: str | None = None) -> None:
    """Whether a launch of a repository would get a seat, or a place in the queue for one. It takes neither."""
    await servers.check(repo, resource_class)


@router.get("/servers/{server_id}")
async def get_server(server_id: str, servers: TheServers) -> Server:
    """One server."""
    return await servers.read(server_id)


@router.delete("/servers", status_code=status.HTTP_202_ACCEPTED)
async def delete_server_of(
    launch_ref: str, repo_url: str, servers: TheServers, attempt: int = 0, even_ready: bool = False
) -> None:
    """Give up a launch's start that is under way, for who never learned the server's id.

    With `even_ready`, for a launch that did not become ready: a server of it that did goes too.
    """
    await servers.stop(servers.id_for(repo_url, launch_ref, attempt), even_ready=even_ready)


@router.delete("/servers/{server_id}", status_code=status.HTTP_202_ACCEPTED)
async def delete_server(server_id: str, servers: TheServers) -> None:
    """Give up a start that is under way."""
    await servers.stop(server_id)
