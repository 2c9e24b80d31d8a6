"""Pre-launch hooks: an operator's own rules about which launches go on, installed as entry points.

A hook is an async callable of the group `bindery.pre_launch`. It is given the launch and the repository that its link
resolves to, before anything is built or started; a build requested on its own is a launch with `options.build_only`.
To refuse the launch it raises `BinderyError`, whose detail the user reads. (BinderHub calls its `pre_launch_hook` after
the build, so that a refused user has waited for it.)
"""

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable
from importlib.metadata import entry_points

from services.common.models import Launch, ResolvedRepo
from services.common.models.errors import BinderyError
from services.common.service.logging import get_logger
from services.common.service.plugins import loading_plugin, plugin_refused

log = get_logger(__name__)

ENTRY_POINTS = "bindery.pre_launch"
Hook = Callable[[Launch, ResolvedRepo], Awaitable[None]]


@functools.cache
def load_hooks() -> tuple[tuple[str, Hook], ...]:
    """Load every hook with its name, in the order of their names, once: when the gateway starts.

    Raise `CannotStart` for an entry point that can't be imported, or that is neither a coroutine function nor an object
    with an async `__call__`.
    """
    hooks = []
    for point in sorted(entry_points(group=ENTRY_POINTS), key=lambda point: point.name):
        with loading_plugin(point.name, ENTRY_POINTS, service="gateway"):
            hook = point.load()
        if not (inspect.iscoroutinefunction(hook) or inspect.iscoroutinefunction(type(hook).__call__)):
            raise plugin_refused(point.name, ENTRY_POINTS, "is no async function", service="gateway")
        hooks.append((point.name, hook))
    return tuple(hooks)


async def run_hooks(launch: Launch, repo: ResolvedRepo, *, seconds: float) -> None:
    """Run each hook on a launch, one after the other, with `seconds` for all of them.

    A hook that fails or takes too long refuses the launch too: it may be there to keep somebody out.

    Raise `BinderyError` if a hook refuses the launch.
    """
    hooks = load_hooks()
    if not hooks:
        return

    name = ""
    try:
        async with asyncio.timeout(seconds):
            for name, hook in hooks:  # noqa: B007 - the log names the hook that raised
                await hook(launch, repo)
    except BinderyError as error:
        log.info("launch_refused", hook=name, code=error.code, detail=error.detail)
        raise
    except Exception as error:
        log.exception("hook_broke", hook=name, error=str(error) or type(error).__name__)
        raise BinderyError("internal") from error
