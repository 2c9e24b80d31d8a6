"""Pre-launch hooks: an operator's own say in which launches go on, found by entry point.

A hook is an async callable of the group `bindery.pre_launch`. It is given the launch and what its link means, before
anything is built or started; a build that is asked for by itself is a launch with `options.build_only`. To refuse the
launch it raises `BinderyError`, whose detail the user reads.
(BinderHub's `pre_launch_hook` is called after the build; there a refused user has waited for it.)
"""

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable
from importlib.metadata import entry_points

from services.common.models import Launch, ResolvedRepo
from services.common.models.errors import BinderyError
from services.common.service.logging import get_logger

log = get_logger(__name__)

ENTRY_POINTS = "bindery.pre_launch"
Hook = Callable[[Launch, ResolvedRepo], Awaitable[None]]


@functools.cache
def load_hooks() -> tuple[tuple[str, Hook], ...]:
    """Every hook with its name, in the order of their names; loaded when the gateway starts.

    Raises `TypeError` for an entry point that is no coroutine function, or object with an async `__call__`.
    """
    found = []
    for point in sorted(entry_points(group=ENTRY_POINTS), key=lambda point: point.name):
        hook = point.load()
        if not (inspect.iscoroutinefunction(hook) or inspect.iscoroutinefunction(type(hook).__call__)):
            raise TypeError(f"The entry point {point.name} of {ENTRY_POINTS} is not an async callable.")
        found.append((point.name, hook))
    return tuple(found)


async def ask_hooks(launch: Launch, repo: ResolvedRepo, *, seconds: float) -> None:
    """Let each hook see a launch, one after the other, `seconds` for all. Raises `BinderyError` to refuse it.

    A hook that breaks, or takes too long, refuses too: it may be what keeps someone out.
    """
    hooks = load_hooks()
    if not hooks:
        return
    name = ""
    try:
        async with asyncio.timeout(seconds):
            for name, hook in hooks:  # noqa: B007 - which one it was, for the log
                await hook(launch, repo)
    except BinderyError as error:
        log.info("launch_refused", hook=name, code=error.code, detail=error.detail)
        raise
    except Exception as error:
        log.exception("hook_broke", hook=name, error=str(error) or type(error).__name__)
        raise BinderyError("internal") from error
