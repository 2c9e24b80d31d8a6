"""What the API server sends and this process can't read: skipped one by one, counted, and logged once.

Anybody who may make objects in the namespace decides what they look like, and a proxy may cut a line. Neither may keep
the other objects from being read, or be taken for news of them: what can't be read is not what was deleted.
"""

import json
from collections.abc import Callable, Iterable, MutableMapping
from typing import Any, Generic, TypeVar

from cachetools import FIFOCache
from prometheus_client import Counter

from services.builder.executors.kubernetes.states import Json
from services.common.net.http import only_dict
from services.common.service.logging import get_logger

log = get_logger(__name__)

UNREADABLE = Counter(
    "bindery_kubernetes_unreadable_total",
    "Objects, and lines of watches, that could not be read, by resource",
    ["resource", "what"],
)
_MAX_LOGGED_OBJECTS = 1000
_MAX_DETAIL_CHARS = 200

T = TypeVar("T")


class UnreadableLineError(Exception):
    """A line of a watch that is cut off, too long, or not what the API describes."""


class UnreadableObjectError(Exception):
    """An object that is not of the shape that its kind has."""


class ObjectReader(Generic[T]):
    """Reads objects of one resource (`jobs`, `pods`, …) by `parse`.

    An object that can't be read is counted each time, and logged once until it can be read again.
    """

    def __init__(self, resource: str, parse: Callable[[Json], T]) -> None:
        self.resource = resource
        self._parse = parse
        self._logged: MutableMapping[str, None] = FIFOCache(_MAX_LOGGED_OBJECTS)

    def read(self, raw: Any) -> T:
        """Return what an object says. Raise `UnreadableObjectError`."""
        name = object_name(raw)
        try:
            parsed = self._parse(raw)
        except Exception as error:  # noqa: BLE001 - whatever parsing raises, the object is the reason
            reason = f"{type(error).__name__}: {error}"[:_MAX_DETAIL_CHARS]
            UNREADABLE.labels(self.resource, "object").inc()
            if name not in self._logged:
                self._logged[name] = None
                log.warning("kubernetes_object_unreadable", resource=self.resource, name=name, error=reason)
            raise UnreadableObjectError(f"{name} of {self.resource} can't be read ({reason})") from None

        self._logged.pop(name, None)
        return parsed

    def read_all(self, items: Iterable[Any]) -> list[T]:
        """Return what those objects say that can be read."""
        parsed: list[T] = []
        for raw in items:
            try:
                parsed.append(self.read(raw))
            except UnreadableObjectError:
                continue
        return parsed


def object_name(raw: Any) -> str:
    """Return the name of an object, of whatever shape it is; empty if it has none."""
    return str(only_dict(only_dict(raw).get("metadata")).get("name") or "")


def parse_change(line: bytes) -> tuple[str, Json, str]:
    """Return the type, the object and the version of a line of a watch. Raise `UnreadableLineError`.

    The object is a `Status`, and has no version, if the type is `ERROR`.
    """
    try:
        change = json.loads(line)
        kind = str(change["type"])
        raw: Json = change["object"]
        version = "" if kind == "ERROR" else str(raw["metadata"]["resourceVersion"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise UnreadableLineError(f"{len(line)} bytes ({type(error).__name__}: {error})") from None
    return kind, only_dict(raw), version
