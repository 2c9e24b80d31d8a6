"""`bindery allow`."""

from typing import Annotated

from cyclopts import Parameter

from bindery.cli.gateway import Gateway, connect, operator_token
from bindery.cli.rules import Duration, Links, Reason, expiry, operator_name, print_rule, split_pattern
from bindery.cli.terminal import CommandError
from bindery.policy import Policy

Only = Annotated[
    bool,
    Parameter(help="Confirm that all other links of the provider are refused from now on.", negative=""),
]


def allow(
    links: Links, /, *, reason: Reason = "", only: Only = False, duration: Duration = "", gateway: Gateway = None
) -> None:
    """Allow links, for the operator, whose token is BINDERY_OPERATOR_TOKEN.

    A provider with an allowance refuses all links that none matches. So the first one needs `--only`. An allowance
    lifts no ban: `bindery policy remove` does.
    """
    provider, pattern = split_pattern(links)
    with connect(gateway) as client:
        policy = Policy(client, operator_token())
        is_open = not any(rule.kind == "allow" and rule.provider in {provider, "*"} for rule in policy.rules())
        if is_open and not only:
            raise CommandError(
                f"Nothing of {provider}/ needs an allowance yet. With this one, all its other links are refused: "
                "repeat the command with --only if you want that. To lift a ban: `bindery policy remove`."
            )
        rule = policy.add("allow", provider, pattern, reason=reason, expires_at=expiry(duration), by=operator_name())
    print_rule(rule)
