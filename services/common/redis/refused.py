"""Answers by which Redis refuses a command for now: it is there, and will take the same command later."""

from redis.exceptions import OutOfMemoryError, ResponseError

CODES = ("MISCONF", "OOM", "NOREPLICAS", "BUSY", "MASTERDOWN")
"""A disk that is full, too much data, too few replicas, a script that runs for long, a replica without its master."""


class RedisRefused(ResponseError):  # type: ignore[misc]  # redis-py is read as untyped
    """Redis refused a command for now, and has changed nothing. Wait and try again, as if it were unavailable."""


def as_refused(error: ResponseError) -> RedisRefused | None:
    """Return the error to raise in the place of one that says that Redis refuses for now; None for any other."""
    if isinstance(error, OutOfMemoryError):  # redis-py has taken the code off
        return RedisRefused(f"OOM {error}")
    code = str(error).partition(" ")[0]
    return RedisRefused(str(error)) if code in CODES else None
