"""What a reply says of the limits of an API: how many requests are left, and how long to wait when none are."""

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

SECONDARY_WAIT_SECONDS = 60.0
"""For a limit that does not say when it ends. GitHub asks for at least this much."""
LONGEST_WAIT_SECONDS = 3600.0
_REFUSALS = frozenset({403, 429})


@dataclass(frozen=True)
class Allowance:
    """The requests that are left of `limit`, until it begins anew at `resets_at` (Unix seconds)."""

    remaining: int
    limit: int
    resets_at: float

    @property
    def share(self) -> float:
        """The part that is left, from 0 to 1."""
        return self.remaining / max(1, self.limit)


def allowance(headers: Mapping[str, str]) -> Allowance | None:
    """Return what the headers of a reply say; None if they say nothing.

    GitHub and Gitea name them `X-RateLimit-*`, GitLab `RateLimit-*`. Sources:
    https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api and
    https://docs.gitlab.com/administration/settings/user_and_ip_rate_limits/
    """
    for prefix in ("x-ratelimit", "ratelimit"):
        remaining = _number(headers.get(f"{prefix}-remaining"))
        limit = _number(headers.get(f"{prefix}-limit"))
        if remaining is not None and limit is not None:
            return Allowance(remaining, limit, _number(headers.get(f"{prefix}-reset")) or 0)
    return None


def wait_seconds(status: int, headers: Mapping[str, str], message: str) -> float | None:
    """Return how long to wait if a reply says that a limit is reached, else None. `message` is the reply's own."""
    if status not in _REFUSALS:
        return None
    left = allowance(headers)
    is_about_a_limit = any(word in message.lower() for word in ("rate limit", "abuse"))
    if status == 403 and left and left.remaining and not is_about_a_limit:
        return None  # Zenodo's replies all have a Retry-After
    if (after := _number(headers.get("retry-after"))) is not None:
        return _bounded(after)
    if left and left.remaining == 0 and left.resets_at:
        return _bounded(left.resets_at - _time_of(headers))
    if status == 429 or is_about_a_limit:
        return SECONDARY_WAIT_SECONDS
    return None


def _time_of(headers: Mapping[str, str]) -> float:
    """Return the time at the server, by whose clock a limit ends."""
    with suppress(ValueError):
        return parsedate_to_datetime(headers.get("date", "")).timestamp()
    return time.time()  # noqa: TID251 - the best guess of another host's clock


def _bounded(seconds: float) -> float:
    return min(max(1.0, seconds), LONGEST_WAIT_SECONDS)


def _number(text: str | None) -> int | None:
    """Return a number that is written in digits; `isdigit` alone takes `²`, which `int` does not."""
    return int(text) if text and text.isascii() and text.isdigit() else None
