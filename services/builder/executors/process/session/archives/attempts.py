"""Requests that are repeated after failures that may pass, also when a server says how long to wait."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from services.common.models.errors import BinderyError
from services.common.net.reply import ReplyTooLargeError

PAUSES_SECONDS = (0.5, 2.0)
"""How long to wait before each further attempt, unless the server asks for more."""
PAUSE_MAX_SECONDS = 120.0
"""A server that asks for a longer pause is not waited for."""
_PASSING = frozenset({408, 429, 500, 502, 503, 504})
_NOT_PUBLIC = frozenset({401, 403})
_ABSENT = frozenset({404, 410, 451})

T = TypeVar("T")


class PassingError(Exception):
    """A failure that may pass. `error` is what is said if it does not."""

    def __init__(self, error: BinderyError, *, pause_seconds: float = 0.0) -> None:
        super().__init__(error.detail)
        self.error = error
        self.pause_seconds = pause_seconds


def refusal(status: int, host: str, what: str, *, retry_after: str = "") -> BinderyError | PassingError:
    """Return the error for a status other than 200; `what` was asked for, and `retry_after` is the reply's header."""
    if status in _NOT_PUBLIC:
        return BinderyError(
            "ref_not_found", f"{host} does not give {what} to everybody (it answered {status}). Ask its authors."
        )
    if status in _ABSENT:
        return BinderyError("ref_not_found", f"{host} does not have {what} any more (it answered {status}).")

    seconds = float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0.0
    error = BinderyError("fetch_failed", f"{host} answered {status}.", retry_after_seconds=seconds or None)
    if status not in _PASSING or seconds > PAUSE_MAX_SECONDS:
        return error
    return PassingError(error, pause_seconds=seconds)


async def attempted(attempt: Callable[[], Awaitable[T]]) -> T:
    """Return the result of `attempt`, which is repeated after a failure that may pass. Raise `BinderyError`."""
    for pause_seconds in (*PAUSES_SECONDS, None):
        try:
            return await attempt()
        except ReplyTooLargeError as error:
            raise BinderyError("repository_too_large", error.detail) from error
        except BinderyError as error:
            if not error.has_code("provider_unavailable"):
                raise
            failure = PassingError(BinderyError("fetch_failed", error.detail))
        except PassingError as error:
            failure = error
        if pause_seconds is None:
            break
        await asyncio.sleep(max(pause_seconds, failure.pause_seconds))
    raise failure.error
