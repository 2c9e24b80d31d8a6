"""The route of a server that is ready: users reach it through the hub's proxy, which may learn of it a moment later."""

import asyncio

from services.common.models import Server
from services.common.models.errors import BinderyError
from services.common.service.backoff import Backoff
from services.launcher.hub.client import Hub

FIRST_PAUSE_SECONDS = 0.02
LONGEST_PAUSE_SECONDS = 1.0


async def await_route(hub: Hub, server: Server, *, seconds: float) -> None:
    """Wait until the proxy leads to a server: one request, if it does already.

    Raise `BinderyError("server_unreachable")` if it does not within `seconds`.
    """
    pauses = Backoff(first_seconds=FIRST_PAUSE_SECONDS, longest_seconds=LONGEST_PAUSE_SECONDS)
    problem: str | None = "no answer"
    try:
        async with asyncio.timeout(seconds):
            while problem := await hub.route_problem(server.user, server.server_name):
                await pauses.sleep()
    except TimeoutError as error:
        sentence = f"The server is ready, but its proxy did not lead to it within {seconds:g} s ({problem})."
        raise BinderyError("server_unreachable", sentence) from error
