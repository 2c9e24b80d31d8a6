"""What the commands about the policy share: their options, and how a rule is printed."""

import getpass
import re
import time
from typing import Annotated

from cyclopts import Parameter

from bindery.cli.terminal import CommandError, printable
from bindery.policy import Rule

_SECONDS = {"m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(?P<number>[0-9]{1,6})(?P<unit>[mhd])")

Links = Annotated[
    str,
    Parameter(
        help="Provider and the beginning of the links, a regular expression: `gh/spammer/`; `*/` for all providers.",
        name="PROVIDER/PATTERN",
    ),
]
Reason = Annotated[str, Parameter(help="Why, in one line. A person whom a ban refuses reads it.", show_default=False)]
Duration = Annotated[
    str, Parameter(help="How long the rule holds: `30m`, `12h`, `7d`.", name="--for", show_default=False)
]


def split_pattern(links: str) -> tuple[str, str]:
    """Return provider and pattern. Raise `CommandError` if there are not both."""
    provider, _, pattern = links.partition("/")
    if links.startswith(("http:", "https:")) or not provider or not pattern:
        raise CommandError(f"{links!r} is not <provider>/<pattern>, as in gh/spammer/ or gh/spammer/miner/")
    return provider, pattern


def expiry(duration: str) -> float | None:
    """Return the Unix time at which a rule expires; None without a duration. Raise `CommandError`."""
    if not duration:
        return None
    match = _DURATION.fullmatch(duration)
    if not match:
        raise CommandError(f"{duration!r} is not a time: write it as 30m, 12h or 7d")
    return time.time() + int(match["number"]) * _SECONDS[match["unit"]]


def operator_name() -> str:
    """Return the name that the audit log gets: that of the user of this machine."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user has none
        return ""


def print_rule(rule: Rule) -> None:
    """Print a rule in one line: its id, or the setting that has it, and what it says."""
    parts = [f"{rule.id:<16}", f"{rule.kind:<10}", f"{rule.provider}/{rule.pattern}"]
    parts += [f"{name}={value}" for name, value in rule.config.items()]
    if rule.end_servers:
        parts.append("ends servers")
    if rule.expires_at:
        parts.append(f"until {date(rule.expires_at)}")
    if rule.reason:
        parts.append(f"({rule.reason})")
    if rule.created_by:
        parts.append(f"by {rule.created_by}")
    print(printable("  ".join(parts)))


def date(at: float) -> str:
    """Return a time as text, in UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(at))
