"""Dependencies of routes: the gateway's context, the repository types, and the operator's token."""

from typing import Annotated

from fastapi import Depends, Header, Request

from services.common.web.auth import OPERATOR_HEADER
from services.gateway.context import GatewayContext
from services.gateway.launches.repository_types import RepositoryType


async def gateway_context(request: Request) -> GatewayContext:
    """Return the context of this process. A coroutine, because FastAPI runs other functions in a thread."""
    context: GatewayContext = request.app.state.context
    return context


Context = Annotated[GatewayContext, Depends(gateway_context)]


async def repository_types(context: Context) -> list[RepositoryType]:
    """Return the repository types that can be launched. Raise `BinderyError("resolver_unavailable")`."""
    return await context.repository_types()


RepositoryTypes = Annotated[list[RepositoryType], Depends(repository_types)]

OperatorToken = Annotated[str, Header(alias=OPERATOR_HEADER, max_length=1000)]
