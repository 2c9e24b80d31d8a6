"""On whose behalf this process calls somebody: the label `doing` of the counters of round trips and HTTP calls.

`work` is what a request or a noun that this process owns causes, and all tasks begun meanwhile; `upkeep` is what
happens without any launch, or once in a while however many there are: leases, sweeps, queues, health checks, and
looking again at what is followed. `connect` is the greeting of a new connection.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Literal

Doing = Literal["work", "upkeep", "connect"]
_doing: ContextVar[Doing] = ContextVar("doing", default="upkeep")


def call_reason() -> Doing:
    """What calls made here and now are counted as."""
    return _doing.get()


@contextlib.contextmanager
def attributed_to(what: Doing) -> Iterator[None]:
    """Calls made in the block, and by tasks begun in it, are counted as `what`."""
    token = _doing.set(what)
    try:
        yield
    finally:
        _doing.reset(token)
