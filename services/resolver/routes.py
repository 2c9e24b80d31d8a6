"""HTTP routes of the resolver: resolve a link, and list the providers."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from services.common.models import ResolvedRepo, Spec
from services.common.web.problems import RESPONSES
from services.resolver.context import ResolverContext

router = APIRouter(responses=RESPONSES)


async def resolver_context(request: Request) -> ResolverContext:
    """Return the context of this process."""
    context: ResolverContext = request.app.state.context
    return context


Context = Annotated[ResolverContext, Depends(resolver_context)]


@router.post("/resolve")
async def resolve(spec: Spec, context: Context) -> ResolvedRepo:
    """Return the immutable repository and ref that a link means now."""
    return await context.resolver.resolve(spec)


@router.get("/providers")
async def providers(context: Context) -> list[dict[str, Any]]:
    """Return every provider as pages show it, in BinderHub's shape of `/api/repoproviders`."""
    return [provider.display_config for provider in context.providers.values()]
