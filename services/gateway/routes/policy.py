"""The v1 API for operators: the rules about what may be launched, and who changed them."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response, status
from pydantic import TypeAdapter

from services.common.models import Spec
from services.common.models.policy import REASON_MAX_LENGTH, AuditEntry, NewRule, PolicyRule, PolicyView, Verdict
from services.common.web.problems import RESPONSES
from services.gateway.routes.dependencies import Context, OperatorToken

router = APIRouter(prefix="/api/v1/admin/policy", tags=["policy"], responses=RESPONSES)

_ENTRIES = TypeAdapter(list[AuditEntry])

RuleId = Annotated[str, Path(pattern=r"^[0-9a-f]{12}$")]


@router.get("")
async def get_policy(context: Context, operator_token: OperatorToken = "") -> PolicyView:
    """Return all rules in the order in which they count: those of the settings, then the live ones."""
    reply = await context.backends.ask_policy("GET", "", operator_token=operator_token)
    return PolicyView.model_validate_json(reply.body)


@router.post("/rules", status_code=status.HTTP_201_CREATED)
async def add_rule(
    new_rule: NewRule, response: Response, context: Context, operator_token: OperatorToken = ""
) -> PolicyRule:
    """Add a live rule, which holds for the next launch. Asking again is safe.

    200 if there was one of this kind about these links: it is replaced, unless it says the same. A ban ends launches
    that are under way, and with `end_servers` running servers, within seconds.
    """
    reply = await context.backends.ask_policy("POST", "/rules", operator_token=operator_token, body=new_rule)
    response.status_code = reply.status
    return PolicyRule.model_validate_json(reply.body)


@router.delete("/rules/{rule_id}", status_code=status.HTTP_204_NO_CONTENT)
async def remove_rule(
    rule_id: RuleId,
    context: Context,
    by: Annotated[str, Query(max_length=200, description="Who removes it.")] = "",
    reason: Annotated[str, Query(max_length=REASON_MAX_LENGTH, description="Why.")] = "",
    operator_token: OperatorToken = "",
) -> None:
    """Remove a live rule. 404 if there is none; a rule of the settings is removed there."""
    params = {"by": by, "reason": reason}
    await context.backends.ask_policy("DELETE", f"/rules/{rule_id}", operator_token=operator_token, params=params)


@router.post("/explain")
async def explain(spec: Spec, context: Context, operator_token: OperatorToken = "") -> Verdict:
    """Say which rules match a link or the repository that it leads to, and which one refuses it; launch nothing."""
    reply = await context.backends.ask_policy("POST", "/explain", operator_token=operator_token, body=spec)
    return Verdict.model_validate_json(reply.body)


@router.get("/audit")
async def get_audit(
    context: Context, limit: Annotated[int, Query(ge=1, le=1000)] = 100, operator_token: OperatorToken = ""
) -> list[AuditEntry]:
    """Return the last changes of the live rules, newest first: who, when, what and why."""
    params = {"limit": str(limit)}
    reply = await context.backends.ask_policy("GET", "/audit", operator_token=operator_token, params=params)
    return _ENTRIES.validate_json(reply.body)
