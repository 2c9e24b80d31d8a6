"""What replies say of limits."""

import time
from email.utils import formatdate

import pytest

from services.resolver.forges.limits import Allowance, allowance, wait_seconds


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (
            {"x-ratelimit-remaining": "10", "x-ratelimit-limit": "60", "x-ratelimit-reset": "1700000000"},
            Allowance(10, 60, 1700000000),
        ),
        ({"ratelimit-remaining": "1", "ratelimit-limit": "2000"}, Allowance(1, 2000, 0)),
        ({"x-ratelimit-remaining": "10"}, None),
        ({"x-ratelimit-remaining": "-1", "x-ratelimit-limit": "60"}, None),
        ({"x-ratelimit-remaining": "²", "x-ratelimit-limit": "60"}, None),
        ({}, None),
    ],
)
def test_what_is_left(headers: dict[str, str], expected: Allowance | None) -> None:
    assert allowance(headers) == expected


RESET = int(time.time()) + 600
REACHED = {"x-ratelimit-remaining": "0", "x-ratelimit-limit": "60", "x-ratelimit-reset": str(RESET)}


@pytest.mark.parametrize("date", [{}, {"date": "yesterday"}])
def test_without_the_time_at_the_server_ours_is_taken(monkeypatch: pytest.MonkeyPatch, date: dict[str, str]) -> None:
    monkeypatch.setattr(time, "time", lambda: RESET - 100.0)
    assert wait_seconds(403, REACHED | date, "") == 100


@pytest.mark.parametrize(
    ("status", "headers", "message", "seconds"),
    [
        (429, {"retry-after": "90"}, "", 90),
        (403, {"retry-after": "90"}, "", 90),
        (429, {"retry-after": "0"}, "", 1),
        (429, {"retry-after": "99999"}, "", 3600),
        (429, {"retry-after": "soon"}, "", 60),
        (429, {}, "", 60),
        (403, {}, "You have exceeded a secondary rate limit.", 60),
        (403, {}, "Resource protected", None),
        (403, REACHED | {"date": formatdate(RESET - 600)}, "", 600),
        (403, REACHED | {"date": formatdate(RESET - 30)}, "", 30),
        (403, REACHED | {"date": formatdate(RESET + 30)}, "", 1),
        (403, REACHED | {"x-ratelimit-remaining": "1"}, "", None),
        (403, REACHED | {"x-ratelimit-remaining": "1", "retry-after": "59"}, "Permission denied.", None),  # Zenodo
        (403, REACHED | {"x-ratelimit-remaining": "1", "retry-after": "59"}, "You have hit a rate limit", 59),
        (200, REACHED, "", None),
        (404, {"retry-after": "90"}, "", None),
    ],
)
def test_how_long_to_wait(status: int, headers: dict[str, str], message: str, seconds: float | None) -> None:
    assert wait_seconds(status, headers, message) == seconds
