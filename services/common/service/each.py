"""Steps for many items, of which one that is damaged must keep no other from its turn."""

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from services.common.service.logging import get_logger

log = get_logger(__name__)

T = TypeVar("T")


async def for_each(
    items: Iterable[T], step: Callable[[T], Awaitable[object]], *, unavailable: tuple[type[Exception], ...]
) -> None:
    """Await `step` for each item in turn, whatever exception that raises; raise the last one at the end.

    An exception in `unavailable` is not the item's, and is raised at once.
    """
    last_error: Exception | None = None
    for item in items:
        try:
            await step(item)
        except unavailable:
            raise
        except Exception as error:  # noqa: BLE001 - it is raised at the end
            log.warning("item_failed", step=step.__name__, item=str(item), error=f"{type(error).__name__}: {error}")
            last_error = error
    if last_error:
        raise last_error
