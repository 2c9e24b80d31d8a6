"""`bindery ban`."""

from bindery.cli.gateway import Gateway, connect, operator_token
from bindery.cli.rules import Duration, Links, Reason, expiry, operator_name, print_rule, split_pattern
from bindery.policy import Policy


def ban(
    links: Links,
    /,
    *,
    reason: Reason = "",
    duration: Duration = "",
    gateway: Gateway = None,
) -> None:
    """Ban links, for the operator, whose token is BINDERY_OPERATOR_TOKEN."""
    provider, pattern = split_pattern(links)
    with connect(gateway) as client:
        rule = Policy(client, operator_token()).add(
            "ban",
            provider,
            pattern,
            reason=reason,
            expires_at=expiry(duration),
            by=operator_name(),
        )
    print_rule(rule)
