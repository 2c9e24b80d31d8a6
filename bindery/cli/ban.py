"""`bindery ban`."""

from typing import Annotated

from cyclopts import Parameter

from bindery.cli.gateway import Gateway, connect, operator_token
from bindery.cli.rules import Duration, Links, Reason, expiry, operator_name, print_rule, split_pattern
from bindery.policy import Policy

EndServers = Annotated[
    bool, Parameter(help="End running servers of these repositories, too.", negative="", show_default=False)
]


def ban(
    links: Links,
    /,
    *,
    reason: Reason = "",
    end_servers: EndServers = False,
    duration: Duration = "",
    gateway: Gateway = None,
) -> None:
    """Ban links, for the operator, whose token is BINDERY_OPERATOR_TOKEN; launches of them end within seconds."""
    provider, pattern = split_pattern(links)
    with connect(gateway) as client:
        rule = Policy(client, operator_token()).add(
            "ban",
            provider,
            pattern,
            reason=reason,
            end_servers=end_servers,
            expires_at=expiry(duration),
            by=operator_name(),
        )
    print_rule(rule)
