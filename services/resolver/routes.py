"""HTTP routes of the resolver: resolve a link, tell which refs a repository has, list the providers; the policy."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response, status

from services.common.models import RefAnswer, RefQuestion, ResolvedRepo, ResolveRequest, Spec
from services.common.models.errors import BinderyError
from services.common.models.policy import (
    REASON_MAX_LENGTH,
    AuditEntry,
    NewRule,
    PolicyQuestion,
    PolicyRule,
    PolicyView,
    Verdict,
    Verdicts,
)
from services.common.web.auth import OPERATOR_HEADER, is_operator
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


# The policy


async def require_operator(
    context: Context, token: Annotated[str, Header(alias=OPERATOR_HEADER, max_length=1000)] = ""
) -> None:
    """Raise `BinderyError("forbidden")` unless the operator sent the request."""
    if not is_operator(context.settings.operator_token, token):
        raise BinderyError(
            "forbidden",
            "The policy is the operator's: send the token that BINDERY_OPERATOR_TOKEN gives this Bindery as "
            f"{OPERATOR_HEADER}; the command line takes it from the same variable.",
        )


OF_OPERATOR = [Depends(require_operator)]


@router.post("/policy/verdicts")
async def verdicts(question: PolicyQuestion, context: Context) -> Verdicts:
    """Say of links, which may have been resolved earlier, whether they may be launched now."""
    return await context.policy.verdicts(question)


@router.get("/policy", dependencies=OF_OPERATOR)
async def policy(context: Context) -> PolicyView:
    """Return all rules: those of the settings, and the live ones."""
    return context.policy.view()


@router.post("/policy/explain", dependencies=OF_OPERATOR)
async def explain(spec: Spec, context: Context) -> Verdict:
    """Say which rules match a link and the repository that it leads to, and which of them decides."""
    return await context.resolver.explain(spec)


@router.post("/policy/rules", status_code=status.HTTP_201_CREATED, dependencies=OF_OPERATOR)
async def add_rule(new_rule: NewRule, context: Context, response: Response) -> PolicyRule:
    """Add a live rule. 200 if there was one of its kind about these links: it is replaced, unless it says the same."""
    rule, is_new = await context.policy.add(new_rule)
    if not is_new:
        response.status_code = status.HTTP_200_OK
    return rule


@router.delete("/policy/rules/{rule_id}", status_code=status.HTTP_204_NO_CONTENT, dependencies=OF_OPERATOR)
async def remove_rule(
    rule_id: str,
    context: Context,
    by: Annotated[str, Query(max_length=200)] = "",
    reason: Annotated[str, Query(max_length=REASON_MAX_LENGTH)] = "",
) -> None:
    """Remove a live rule."""
    await context.policy.remove(rule_id, by=by, reason=reason)


@router.get("/policy/audit", dependencies=OF_OPERATOR)
async def audit(context: Context, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> list[AuditEntry]:
    """Return the last changes of the live policy, newest first."""
    return await context.policy.audit(limit)
