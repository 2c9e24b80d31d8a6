"""The log of a build as a response: by the build, or by a launch of it."""

from typing import Annotated

from fastapi import Depends, Query, Request, Response

from services.gateway.context import GatewayContext

_POSITION_HEADER = "bindery-log-position"


def _excerpt(
    request: Request,
    after: Annotated[
        str, Query(max_length=80, description="A position: of a JSON line, or of the header Bindery-Log-Position.")
    ] = "",
    lines: Annotated[
        int, Query(description="Number of lines from there; if negative, that many of the last ones; 0: all.")
    ] = 0,
    form: Annotated[str, Query(alias="format", pattern="^(text|jsonl)?$", description="Wins over Accept.")] = "",
) -> dict[str, str]:
    if not form:
        form = "jsonl" if "application/x-ndjson" in request.headers.get("accept", "") else "text"
    return {"after": after, "lines": str(lines), "format": form}


Excerpt = Annotated[dict[str, str], Depends(_excerpt)]
"""The part of a log that is asked for, as the builder's parameters."""


async def log_response(context: GatewayContext, build_id: str, excerpt: Excerpt) -> Response:
    """Return an excerpt of a build's log. Raise `BinderyError`, as the builder does."""
    reply = await context.backends.ask_builder("GET", f"/builds/{build_id}/log", params=excerpt)
    headers = {name: reply.headers[name] for name in ("content-type", _POSITION_HEADER)}
    return Response(reply.body, headers=headers)
