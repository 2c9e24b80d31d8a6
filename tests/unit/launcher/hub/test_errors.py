"""What the hub's errors ask of a caller."""

import time
from email.utils import formatdate

import pytest

from services.common.models.errors import BinderyError
from services.launcher.hub.errors import HubUnavailable, error_for


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [("12", 12.0), ("1.5", 1.5), ("-3", 0.0), ("soon", None), (None, None), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0)],
)
def test_a_busy_hub_says_when_to_come_again(retry_after: str | None, seconds: float | None) -> None:
    error = error_for(429, b'{"message": "Too many users"}', retry_after)
    assert isinstance(error, HubUnavailable)
    assert (error.is_busy, error.retry_after_seconds) == (True, seconds)


def test_a_busy_hub_may_name_a_date() -> None:
    error = error_for(503, b"", formatdate(time.time() + 60, usegmt=True))
    assert isinstance(error, HubUnavailable)
    assert not error.is_busy
    assert error.retry_after_seconds == pytest.approx(60, abs=5)


@pytest.mark.parametrize("body", [b"", b"<html>Bad Gateway</html>", b"[]", b'{"message": null}'])
def test_an_answer_without_a_message_is_told_by_its_status(body: bytes) -> None:
    assert str(error_for(502, body, None)) == "it answered 502"


def test_a_start_that_the_hub_can_explain_is_not_a_hub_that_is_away() -> None:
    error = error_for(500, b'{"message": "Spawner failed to start [status=137]. The logs may contain details."}', None)
    assert isinstance(error, BinderyError)
    assert error.code == "server_out_of_memory"
