"""A watch of one kind of objects, for all builds of a process: list them, follow their changes, list them again."""

import asyncio
import math
import time
from collections.abc import Callable
from typing import Any, Generic, NoReturn, Protocol, Self, TypeVar

from prometheus_client import Counter, Gauge

from services.builder.executors.base import ExecutorUnavailableError
from services.builder.executors.kubernetes.api import Api, ApiError
from services.builder.executors.kubernetes.settings import KubernetesSettings
from services.builder.executors.kubernetes.unreadable import (
    UNREADABLE,
    ObjectReader,
    UnreadableLineError,
    UnreadableObjectError,
    object_name,
    parse_change,
)
from services.common.service.loops import run_forever

RELISTS = Counter("bindery_kubernetes_lists_total", "Lists of watched objects, by why one was made", ["why"])
STALENESS = Gauge(
    "bindery_kubernetes_watch_staleness_seconds",
    "Time since the API server last sent a list, a change or a bookmark, or opened the watch, in seconds",
    ["resource"],
)
_DELETED_KEPT_SECONDS = 600.0
_RETRY_MAX_SECONDS = 5.0


class WatchedObject(Protocol):
    """An object of the API server, as this process keeps it."""

    @property
    def name(self) -> str:
        """Its name, which no other object of its kind has."""

    @property
    def owner(self) -> str:
        """The name of the object whose followers it concerns."""

    def as_deleted(self) -> Self:
        """Return the same object, marked as deleted."""


T = TypeVar("T", bound=WatchedObject)


class Watch(Generic[T]):
    """The objects under `path` that `selector` (query parameters) picks, each read by `reader`.

    `on_change` is called with each object that is new or has changed. `on_health` is called with None whenever the API
    server has answered, and with a sentence when it has not. A deleted object stays for a while, marked as deleted. An
    object that can't be read any more stays as it was.
    """

    def __init__(
        self,
        *,
        api: Api,
        settings: KubernetesSettings,
        path: str,
        selector: dict[str, str],
        reader: ObjectReader[T],
        on_change: Callable[[T], None],
        on_health: Callable[[str | None], None],
    ) -> None:
        self._api = api
        self._settings = settings
        self._path = path
        self._selector = selector
        self._reader = reader
        self._on_change = on_change
        self._on_health = on_health
        self._deleted_at: dict[str, float] = {}

        self._version = ""
        self._list_reason = "start"
        self._list_due = 0.0
        self._is_failing = False
        self._confirmed_at = time.monotonic()

        self.outage: str | None = None
        """Why the API server does not serve this watch; None while it does."""
        self.objects: dict[str, T] = {}
        self.is_listed = asyncio.Event()

    @property
    def resource(self) -> str:
        """The resource that it watches, as the API calls it."""
        return self._reader.resource

    @property
    def staleness_seconds(self) -> float:
        """The time since the API server last proved that this watch works."""
        return time.monotonic() - self._confirmed_at

    async def run(self) -> NoReturn:
        """Watch until cancelled."""
        self._confirmed_at = time.monotonic()
        STALENESS.labels(self.resource).set_function(lambda: self.staleness_seconds)
        await run_forever(
            self._list_and_follow,
            name=f"watch of {self.resource}",
            unavailable=(ExecutorUnavailableError, ApiError, UnreadableLineError),
            retry_max_seconds=_RETRY_MAX_SECONDS,
            is_session=True,
        )

    async def _list_and_follow(self) -> None:
        """List the objects if it is time, and follow their changes for a while. Raise whatever went wrong."""
        is_list_due = not self._version or time.monotonic() > self._list_due
        try:
            if is_list_due:
                await self._list()
            await self._follow()
            self._is_failing = False
        except ExecutorUnavailableError as error:
            if self._is_failing:  # a first failure may be a connection that was closed in the normal course
                self._set_outage(str(error))
            self._is_failing = True
            raise
        except ApiError as error:
            if error.status == 410:  # our version is too old to follow changes from
                self._forget_version("expired")
                if is_list_due:
                    raise
                return
            self._set_outage(f"the API server refuses {self.resource} ({error.message})")
            self._is_failing = True
            raise
        except UnreadableLineError:
            UNREADABLE.labels(self.resource, "line").inc()
            self._forget_version("unreadable")
            raise
        except Exception:  # nobody has thought of it: a new list is right whatever it was
            self._forget_version("error")
            raise

    def _forget_version(self, reason: str) -> None:
        self._version = ""
        self._list_reason = reason

    def _set_outage(self, outage: str | None) -> None:
        self.outage = outage
        self._on_health(outage)

    def _confirm(self) -> None:
        """Note that the API server has just served this watch."""
        self._confirmed_at = time.monotonic()
        self._set_outage(None)

    async def _list(self) -> None:
        """Replace all objects by those that the API server lists, except for those that can't be read."""
        items: list[Any] = []
        version = ""
        async for page in self._api.pages(self._path, self._selector):
            items += page["items"]
            version = str(page["metadata"]["resourceVersion"])
        RELISTS.labels(self._list_reason).inc()

        names = {object_name(raw) for raw in items}
        for name in set(self.objects) - names:
            self._delete(self.objects[name])
        for entry in self._reader.read_all(items):
            self._update(entry)

        self._version = version
        self._list_reason = "periodic"
        self._list_due = time.monotonic() + self._settings.kubernetes_relist_seconds
        self._drop_old_deleted()

        self._is_failing = False
        self.is_listed.set()
        self._confirm()

    async def _follow(self) -> None:
        """Apply changes until the next list is due, or for `kubernetes_watch_seconds`.

        The server ends the reply then. A connection whose other side is gone without a word is noticed soon after.
        """
        until_list_seconds = self._list_due - time.monotonic()
        seconds = math.ceil(max(1.0, min(until_list_seconds, self._settings.kubernetes_watch_seconds)))
        query = self._selector | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(seconds),
        }
        quiet_seconds = seconds + self._settings.kubernetes_read_timeout_seconds

        async with self._api.stream(self._path, query, quiet_seconds=quiet_seconds) as stream:
            self._confirm()
            while line := await stream.read_line():
                self._apply(line)
                self._confirm()

    def _apply(self, line: bytes) -> None:
        """Apply a change. Raise `ApiError` if it is an error, and `UnreadableLineError`."""
        kind, raw, version = parse_change(line)
        if kind == "ERROR":
            code = str(raw.get("code"))
            raise ApiError(int(code) if code.isdecimal() else 500, str(raw.get("message") or ""))

        self._version = version
        if kind == "BOOKMARK":
            return
        try:
            entry = self._reader.read(raw)
        except UnreadableObjectError:
            last_known = self.objects.get(object_name(raw))
            if kind == "DELETED" and last_known:
                self._delete(last_known)
            return

        if kind == "DELETED":
            self._delete(entry)
        else:
            self._update(entry)

    def _update(self, entry: T) -> None:
        self._deleted_at.pop(entry.name, None)
        if self.objects.get(entry.name) != entry:
            self.objects[entry.name] = entry
            self._on_change(entry)

    def _delete(self, entry: T) -> None:
        if entry.name in self._deleted_at:
            return
        self._deleted_at[entry.name] = time.monotonic()
        deleted = entry.as_deleted()
        self.objects[entry.name] = deleted
        self._on_change(deleted)

    def _drop_old_deleted(self) -> None:
        for name, since in list(self._deleted_at.items()):
            if time.monotonic() - since > _DELETED_KEPT_SECONDS:
                del self._deleted_at[name]
                self.objects.pop(name, None)
