"""One kind of object, watched for all builds of a process: listed, then followed, and listed again at times."""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Generic, Protocol, Self, TypeVar

from prometheus_client import Counter

from services.builder.executors.base import ExecutorUnavailableError
from services.builder.executors.kubernetes.api import Api, ApiError, Json
from services.builder.executors.kubernetes.settings import KubernetesSettings
from services.common.service.logging import get_logger
from services.common.service.tasks import sleep_unless_cancelled

log = get_logger(__name__)

RELISTS = Counter("bindery_kubernetes_lists_total", "Lists of watched objects, by why one was made", ["why"])
_GONE_KEPT_SECONDS = 600.0
_PAGE = "500"


class WatchedObject(Protocol):
    """An object as this process knows it."""

    @property
    def name(self) -> str: ...
    @property
    def owner(self) -> str: ...
    def gone(self) -> Self: ...


T = TypeVar("T", bound=WatchedObject)


class Watch(Generic[T]):
    """The objects under `path` that `selector` (query parameters) picks, each made by `of`.

    `on_change` gets each that is new or another, `on_heard` a None whenever the API server has answered, and what is
    wrong when it has not. What was deleted is kept for a while, marked so.
    """

    def __init__(
        self,
        api: Api,
        settings: KubernetesSettings,
        path: str,
        selector: dict[str, str],
        of: Callable[[Json], T],
        on_change: Callable[[T], None],
        on_heard: Callable[[str | None], None],
    ) -> None:
        self._api, self._settings = api, settings
        self._path, self._selector, self._of = path, selector, of
        self._on_change, self._on_heard = on_change, on_heard
        self._gone_at: dict[str, float] = {}
        self._version = ""
        self.objects: dict[str, T] = {}
        self.is_listed = asyncio.Event()

    async def run(self) -> None:
        """Watch until cancelled."""
        why, failures = "start", 0
        list_due = 0.0
        while True:
            try:
                if not self._version or time.monotonic() > list_due:
                    await self._list(why)
                    list_due, why = time.monotonic() + self._settings.kubernetes_relist_seconds, "periodic"
                    failures = 0
                await self._follow(list_due - time.monotonic())
                failures = 0
            except ApiError as error:
                if error.status == 410:  # what we know is too old to go on from
                    self._version, why = "", "expired"
                    continue
                self._on_heard(f"the API server refuses {self._path.rpartition('/')[2]} ({error.message})")
                failures += 1
            except ExecutorUnavailableError as error:
                failures += 1
                if failures > 1:  # the first may be a connection that has ended as they do
                    self._on_heard(str(error))
            await sleep_unless_cancelled(min(5.0, 0.1 * 2 ** min(failures, 6)) if failures else 0.0)

    async def _list(self, why: str) -> None:
        """Replace what is known. One page after the other, as of one moment."""
        found: dict[str, T] = {}
        token = ""
        while True:
            query = self._selector | {"limit": _PAGE} | ({"continue": token} if token else {})
            reply = await self._api.call("GET", self._path, query=query)
            for raw in reply.get("items") or []:
                one = self._of(raw)
                found[one.name] = one
            if not (token := reply["metadata"].get("continue", "")):
                break
        RELISTS.labels(why).inc()
        for name in set(self.objects) - set(found):
            self._deleted(self.objects[name])
        for one in found.values():
            self._changed(one)
        self._version = reply["metadata"]["resourceVersion"]
        self._forget_gone()
        self.is_listed.set()
        self._on_heard(None)

    async def _follow(self, seconds: float) -> None:
        """Take what changes for at most `seconds`. The server sends a bookmark about each minute."""
        query = self._selector | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(max(1, round(seconds))),
        }
        async with self._api.stream(self._path, query, quiet_seconds=seconds + 10) as chunks:
            self._on_heard(None)
            while line := await chunks.line():
                self._take(json.loads(line))
                self._on_heard(None)

    def _take(self, news: Json) -> None:
        raw, kind = news["object"], news["type"]
        if kind == "ERROR":
            raise ApiError(int(raw.get("code", 500)), str(raw.get("message", "")))
        self._version = raw["metadata"]["resourceVersion"]
        if kind == "DELETED":
            self._deleted(self._of(raw))
        elif kind != "BOOKMARK":
            self._changed(self._of(raw))

    def _changed(self, one: T) -> None:
        self._gone_at.pop(one.name, None)
        if self.objects.get(one.name) != one:
            self.objects[one.name] = one
            self._on_change(one)

    def _deleted(self, one: T) -> None:
        if one.name not in self._gone_at:
            self._gone_at[one.name] = time.monotonic()
            self.objects[one.name] = one.gone()
            self._on_change(one.gone())

    def _forget_gone(self) -> None:
        for name, since in list(self._gone_at.items()):
            if time.monotonic() - since > _GONE_KEPT_SECONDS:
                del self._gone_at[name]
                self.objects.pop(name, None)
