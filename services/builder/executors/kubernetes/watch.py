"""A watch of one kind of objects, for all builds of a process: list them, follow their changes, list them again."""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Generic, Protocol, Self, TypeVar

from prometheus_client import Counter

from services.builder.executors.base import ExecutorUnavailableError
from services.builder.executors.kubernetes.api import Api, ApiError
from services.builder.executors.kubernetes.settings import KubernetesSettings
from services.builder.executors.kubernetes.states import Json
from services.common.service.backoff import Backoff
from services.common.service.tasks import sleep_unless_cancelled

RELISTS = Counter("bindery_kubernetes_lists_total", "Lists of watched objects, by why one was made", ["why"])
_DELETED_KEPT_SECONDS = 600.0
_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 5.0


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
    """The objects under `path` that `selector` (query parameters) picks, each parsed by `parse`.

    `on_change` is called with each object that is new or has changed. `on_health` is called with None whenever the API
    server has answered, and with a sentence when it has not. A deleted object stays for a while, marked as deleted.
    """

    def __init__(
        self,
        *,
        api: Api,
        settings: KubernetesSettings,
        path: str,
        selector: dict[str, str],
        parse: Callable[[Json], T],
        on_change: Callable[[T], None],
        on_health: Callable[[str | None], None],
    ) -> None:
        self._api = api
        self._settings = settings
        self._path = path
        self._selector = selector
        self._parse = parse
        self._on_change = on_change
        self._on_health = on_health
        self._deleted_at: dict[str, float] = {}
        self._version = ""
        self.objects: dict[str, T] = {}
        self.is_listed = asyncio.Event()

    async def run(self) -> None:
        """Watch until cancelled."""
        backoff = Backoff(first_seconds=_FIRST_PAUSE_SECONDS, longest_seconds=_LONGEST_PAUSE_SECONDS, jitter=0.0)
        is_failing = False
        why = "start"
        list_due = 0.0
        while True:
            try:
                if not self._version or time.monotonic() > list_due:
                    await self._list(why)
                    list_due = time.monotonic() + self._settings.kubernetes_relist_seconds
                    why = "periodic"
                    is_failing = False
                    backoff.restart()
                await self._follow(list_due - time.monotonic())
                is_failing = False
                backoff.restart()
            except ApiError as error:
                if error.status == 410:  # our version is too old to follow changes from
                    self._version = ""
                    why = "expired"
                    continue
                self._on_health(f"the API server refuses {self._path.rpartition('/')[2]} ({error.message})")
                is_failing = True
            except ExecutorUnavailableError as error:
                if is_failing:  # a first failure may be a connection that was closed in the normal course
                    self._on_health(str(error))
                is_failing = True

            if is_failing:
                await backoff.sleep()
            else:
                await sleep_unless_cancelled(0)

    async def _list(self, why: str) -> None:
        """Replace all objects by those that the API server lists."""
        listed: dict[str, T] = {}
        version = ""
        async for page in self._api.pages(self._path, self._selector):
            for raw in page.get("items") or []:
                entry = self._parse(raw)
                listed[entry.name] = entry
            version = page["metadata"]["resourceVersion"]
        RELISTS.labels(why).inc()

        for name in set(self.objects) - set(listed):
            self._delete(self.objects[name])
        for entry in listed.values():
            self._update(entry)
        self._version = version

        self._drop_old_deleted()
        self.is_listed.set()
        self._on_health(None)

    async def _follow(self, seconds: float) -> None:
        """Apply changes for at most `seconds`. The server sends a bookmark about once a minute."""
        query = self._selector | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(max(1, round(seconds))),
        }
        async with self._api.stream(self._path, query, quiet_seconds=seconds + 10) as stream:
            self._on_health(None)
            while line := await stream.read_line():
                self._apply(json.loads(line))
                self._on_health(None)

    def _apply(self, change: Json) -> None:
        kind = change["type"]
        raw = change["object"]
        if kind == "ERROR":
            raise ApiError(int(raw.get("code", 500)), str(raw.get("message", "")))

        self._version = raw["metadata"]["resourceVersion"]
        if kind == "DELETED":
            self._delete(self._parse(raw))
        elif kind != "BOOKMARK":
            self._update(self._parse(raw))

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
