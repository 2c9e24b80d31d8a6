"""The reason for an outgoing call: the label `doing` of the counters of round trips and HTTP calls.

- `work`: caused by a request, or by a record that this process owns, and by tasks started for it.
- `upkeep`: independent of the number of launches: leases, sweeps, queues, health checks, polling of followed streams.
- `connect`: the handshake of a new connection.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Literal

CallReason = Literal["work", "upkeep", "connect"]
_reason: ContextVar[CallReason] = ContextVar("doing", default="upkeep")


def call_reason() -> CallReason:
    """Return the reason of calls made in the current context."""
    return _reason.get()


@contextlib.contextmanager
def attributed_to(reason: CallReason) -> Iterator[None]:
    """Count calls made in the block, and by tasks started in it, under `reason`."""
    token = _reason.set(reason)
    try:
        yield
    finally:
        _reason.reset(token)
