"""HTTP routes of the resolver: resolve a link, tell which refs a repository has, and list the providers."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from services.common.models import RefAnswer, RefQuestion, ResolvedRepo, ResolveRequest, Spec
from services.common.web.problems import RESPONSES
from services.resolver.context import ResolverContext

router = APIRouter(responses=RESPONSES)


async def resolver_context(request: Request) -> ResolverContext:
    """Return the context of this process."""
    context: ResolverContext = request.app.state.context
    return context


Context = Annotated[ResolverContext, Depends(resolver_context)]


@router.post("/resolve")
async def resolve(question: ResolveRequest, context: Context) -> ResolvedRepo:
    """Return the immutable repository and ref that a link means now: to everybody, or to the holder of a login."""
    spec = Spec(provider=question.provider, spec=question.spec)
    return await context.resolver.resolve(spec, question.credential)


@router.post("/refs")
async def refs(question: RefQuestion, context: Context) -> RefAnswer:
    """Return those of some refs that a repository has: the address of a page may not say where its branch ends."""
    return RefAnswer(existing=await context.resolver.existing_refs(question))


@router.get("/providers")
async def providers(context: Context) -> list[dict[str, Any]]:
    """Return every provider as pages show it, in BinderHub's shape of `/api/repoproviders`, and its `sites`."""
    return [
        {**provider.display_config, "sites": [site.model_dump(mode="json") for site in provider.sites]}
        for provider in context.providers.values()
    ]
