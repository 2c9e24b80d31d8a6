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

    An exception in `unavailable` is not the item's, and is raised at once. The log names the step and the item, so pass
    no lambda.
    """
    last_error: Exception | None = None
    for item in items:
        try:
            await step(item)
        except unavailable:
            raise
        except Exception as error:  # noqa: BLE001 - it is raised at the end
            text = f"{type(error).__name__}: {error}"
            log.warning("item_failed", step=step.__name__.strip("_"), item=_name_of(item), error=text)
            last_error = error
    if last_error:
        raise last_error


def _name_of(item: object) -> str:
    """Return an item as other lines of the log name it: a topic is its name, and a name from Redis is text."""
    if isinstance(item, bytes):
        return item.decode(errors="replace")
    return str(getattr(item, "name", item))
