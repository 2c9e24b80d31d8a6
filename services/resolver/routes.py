"""The resolver's HTTP: links in, repositories out."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from services.common.models import ResolvedRepo, Spec
from services.common.web.problems import RESPONSES
from services.resolver.resolver import Resolving

router = APIRouter(responses=RESPONSES)


async def _resolving(request: Request) -> Resolving:
    found: Resolving = request.app.state.resolving
    return found


@router.post("/resolve")
async def resolve(spec: Spec, resolving: Annotated[Resolving, Depends(_resolving)]) -> ResolvedRepo:
    """What a link means now, as an immutable repository and ref."""
    return await resolving.resolve(spec)


@router.get("/providers")
async def providers(request: Request) -> list[dict[str, Any]]:
    """Every provider as pages show it, in BinderHub's shape of `/api/repoproviders`."""
    return [provider.display_config for provider in request.app.state.providers.values()]
