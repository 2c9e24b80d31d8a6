"""`bindery policy`."""

from typing import Annotated, Literal

from cyclopts import Parameter

from bindery.cli.gateway import Gateway, connect, operator_token
from bindery.cli.rules import Reason, date, operator_name, print_rule
from bindery.cli.terminal import CommandError, printable
from bindery.client import split_spec
from bindery.policy import Policy

Action = Annotated[
    Literal["list", "why", "remove", "audit"],
    Parameter(
        help="`list`: all rules. `why`: which rule decides about a link. `remove`: a live rule, by its id. `audit`: "
        "who changed what.",
    ),
]
Subject = Annotated[str, Parameter(help="The link for `why`, the id for `remove`.", show_default=False)]
Number = Annotated[int, Parameter(help="How many changes `audit` prints.")]


def policy(
    action: Action = "list",
    subject: Subject = "",
    /,
    *,
    reason: Reason = "",
    last: Number = 20,
    gateway: Gateway = None,
) -> int:
    """Print or change which links may be launched, for the operator, whose token is BINDERY_OPERATOR_TOKEN."""
    if (action in {"why", "remove"}) is not bool(subject):
        raise CommandError("Write `why LINK`, `remove ID`, `audit` or `list`.")

    with connect(gateway) as client:
        rules = Policy(client, operator_token())
        if action == "list":
            for rule in rules.rules():
                print_rule(rule)
        elif action == "why":
            return _print_verdict(rules, subject)
        elif action == "remove":
            rules.remove(subject, by=operator_name(), reason=reason)
        else:
            _print_audit(rules, last)
    return 0


def _print_verdict(rules: Policy, link: str) -> int:
    """Print whether a link may be launched, and the rules that match it. Return 1 if it may not."""
    try:
        provider, spec = split_spec(link)
    except ValueError as error:
        raise CommandError(str(error)) from error

    verdict = rules.explain(provider, spec)
    print(printable(verdict.refusal) or f"{provider}/{printable(spec)} may be launched.")
    if verdict.rule:
        print_rule(verdict.rule)
    elif verdict.refusal:
        print("No rule bans it, but none of the allowances for its provider matches it.")
    for rule in verdict.matches:
        if rule != verdict.rule:
            print_rule(rule)
    return 1 if verdict.refusal else 0


def _print_audit(rules: Policy, last: int) -> None:
    for change in rules.audit(last):
        why = f"  ({change.reason})" if change.reason else ""
        who = change.by or "somebody"
        rule = f"{change.rule.kind} {change.rule.provider}/{change.rule.pattern}"
        print(printable(f"{date(change.at)}  {who} {change.action} {change.rule.id}  {rule}{why}"))
