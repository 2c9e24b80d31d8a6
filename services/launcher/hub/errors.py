"""Failures of the hub: whether a retry may help, and the error that a status stands for."""

import contextlib
import json
import time
from email.utils import parsedate_to_datetime

from services.common.models.errors import BinderyError
from services.common.net.http import only_dict
from services.launcher.hub.failure_patterns import Diagnosis, Verdict, match_pattern

TOKEN_REFUSALS = ("Missing or invalid credentials", "not authorized with current scopes")
"""The messages of JupyterHub 5 and 6 with a 403 for a revoked token, or one without a scope; a hook's differ."""


class HubUnavailable(Exception):
    """The hub did not answer as it should, and a retry may help."""

    def __init__(
        self,
        reason: str,
        retry_after_seconds: float | None = None,
        *,
        is_busy: bool = False,
        silent_seconds: float | None = None,
    ) -> None:
        """Create the error.

        `retry_after_seconds` is the wait that the hub asked for. `is_busy` means that the hub is healthy but has as
        many starts under way as it may. `silent_seconds` is how long the hub had sent nothing, if a stream broke; None
        means since the call was made.
        """
        super().__init__(reason)
        self.retry_after_seconds = retry_after_seconds
        self.is_busy = is_busy
        self.silent_seconds = silent_seconds


def error_for(status: int, body: bytes, retry_after: str | None) -> HubUnavailable | BinderyError:
    """Return the exception for an error status of the hub."""
    try:
        message = str(only_dict(json.loads(body)).get("message") or "")
    except ValueError:
        message = ""
    answer = f"it answered {status}" + (f": {message}" if message else "")

    pattern = match_pattern(message)
    if pattern and pattern.verdict is Verdict.FATAL:
        return Diagnosis().failure(message)
    if status == 429 or status >= 500:
        return HubUnavailable(answer, _retry_after_seconds(retry_after), is_busy=status == 429)
    if status == 401 or (status == 403 and any(refusal in message for refusal in TOKEN_REFUSALS)):
        return BinderyError("hub_token_refused", f"JupyterHub does not accept our token: {answer}.")
    return BinderyError("hub_refused", f"JupyterHub refused: {answer}.")


def _retry_after_seconds(header: str | None) -> float | None:
    """Return the wait that a `Retry-After` asks for, given in seconds or as a date (RFC 9110, 10.2.3), or None."""
    if not header:
        return None
    with contextlib.suppress(ValueError):
        return max(0.0, float(header))
    with contextlib.suppress(ValueError):
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())  # noqa: TID251 - the hub's date
    return None
