"""A watch goes on where it broke off, begins anew when that is forgotten, and tells when nobody answers."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from services.builder.executors.kubernetes.api import Api
from services.builder.executors.kubernetes.settings import KubernetesSettings
from services.builder.executors.kubernetes.states import WarningEvent
from services.builder.executors.kubernetes.unreadable import ObjectReader
from services.builder.executors.kubernetes.watch import Watch
from tests.support.kubernetes_api import serving
from tests.support.metrics import sample
from tests.support.polling import until
from tests.support.settings import settings_for

PATH = "/api/v1/namespaces/{namespace}/events"


def event(name: str, version: int, message: str = "") -> dict[str, object]:
    metadata = {"name": name, "resourceVersion": str(version)}
    return {"metadata": metadata, "involvedObject": {"name": "bindery-x"}, "message": message}


@dataclass(kw_only=True)
class ApiServer:
    """Speaks the wire of list and watch: what each watch says is given, then its connection ends or stays open."""

    items: list[dict[str, object]] = field(default_factory=list)
    version: int = 1
    watches: list[list[tuple[str, dict[str, object]]]] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    timeouts: set[str] = field(default_factory=set)
    """How many seconds each watch asked for."""
    is_broken: bool = False
    page_objects: int = 500
    later: list[dict[str, object]] = field(default_factory=list)
    """What there is once a watch has been told of an error."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if self.is_broken:
            return web.Response(status=503, text="not now")
        if "watch" not in request.query:
            self.requests.append("list")
            start = int(request.query.get("continue", "0"))
            end = start + min(int(request.query["limit"]), self.page_objects)
            metadata = {"resourceVersion": str(self.version)}
            if end < len(self.items):
                metadata["continue"] = str(end)
            return web.json_response({"metadata": metadata, "items": self.items[start:end]})
        self.requests.append(f"watch {request.query['resourceVersion']}")
        self.timeouts.add(request.query["timeoutSeconds"])
        reply = web.StreamResponse()
        await reply.prepare(request)
        if not self.watches:
            await asyncio.Event().wait()
        for kind, body in self.watches.pop(0):
            if kind == "LINE":
                await reply.write(bytes(body["line"]))  # type: ignore[call-overload]
                continue
            if kind == "ERROR":
                self.items = self.later
                self.version = 7
            await reply.write(json.dumps({"type": kind, "object": body}).encode() + b"\n")
        return reply


@pytest.fixture
async def server() -> ApiServer:
    return ApiServer()


@contextlib.asynccontextmanager
async def watching(
    server: ApiServer, folder: Path, **settings: object
) -> AsyncIterator[tuple[Watch[WarningEvent], list[str | None]]]:
    async with serving(server.answer, folder) as config:
        values = settings_for(KubernetesSettings, {"kubernetes_config": str(config)} | settings)
        api = Api(values)
        health: list[str | None] = []
        watch = Watch(
            api=api,
            settings=values,
            path=PATH,
            selector={},
            reader=ObjectReader("events", WarningEvent.parse),
            on_change=lambda _changed: None,
            on_health=health.append,
        )
        task = asyncio.create_task(watch.run())
        try:
            yield watch, health
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await api.aclose()


async def test_a_watch_that_ends_is_resumed_after_the_last_event_or_bookmark(server: ApiServer, tmp_path: Path) -> None:
    server.items = [event("a", 1, "old")]
    server.watches = [[("MODIFIED", event("a", 5, "new"))], [("BOOKMARK", {"metadata": {"resourceVersion": "9"}})]]
    async with watching(server, tmp_path) as (watch, _):
        await until(lambda: "watch 9" in server.requests)
        assert server.requests == ["list", "watch 1", "watch 5", "watch 9"]
        assert watch.objects["a"].message == "new"


async def test_a_list_is_read_page_by_page(server: ApiServer, tmp_path: Path) -> None:
    server.items = [event(name, 1) for name in "abcde"]
    server.page_objects = 2
    async with watching(server, tmp_path) as (watch, _):
        await until(lambda: "watch 1" in server.requests)
        assert server.requests == ["list", "list", "list", "watch 1"]
        assert set(watch.objects) == set("abcde")


async def test_a_watch_whose_place_is_forgotten_lists_anew(server: ApiServer, tmp_path: Path) -> None:
    server.items = [event("a", 1), event("b", 1)]
    server.later = [event("b", 7)]
    server.watches = [[("ERROR", {"code": 410, "message": "too old resource version"})]]
    async with watching(server, tmp_path) as (watch, _):
        await until(lambda: "watch 7" in server.requests)
        assert server.requests == ["list", "watch 1", "list", "watch 7"]
        assert set(watch.objects) == {"a", "b"}  # what was deleted meanwhile is kept for a while


@pytest.mark.slow
async def test_a_server_that_does_not_answer_is_told_and_so_is_its_return(server: ApiServer, tmp_path: Path) -> None:
    server.is_broken = True
    async with watching(server, tmp_path) as (watch, health):
        await until(lambda: any(health))
        assert "503" in str(health[-1])
        server.is_broken = False
        await asyncio.wait_for(watch.is_listed.wait(), 20)
        await until(lambda: health[-1] is None)


@pytest.mark.parametrize("line", [b'{"type": "MODI', b"[]\n", b"null\n", b'{"type": "ADDED"}\n', b"x" * 2**23 + b"\n"])
async def test_a_line_that_cant_be_read_is_counted_and_the_objects_are_listed_anew(
    server: ApiServer, tmp_path: Path, line: bytes
) -> None:
    count = sample("bindery_kubernetes_unreadable_total", resource="events", what="line")
    server.items = [event("a", 1)]
    server.watches = [[("LINE", {"line": line})]]
    async with watching(server, tmp_path) as (watch, _):
        await until(lambda: len(server.requests) == 4)
        assert server.requests == ["list", "watch 1", "list", "watch 1"]
        assert watch.objects["a"].name == "a"
    assert sample("bindery_kubernetes_unreadable_total", resource="events", what="line") == count + 1


async def test_an_object_that_cant_be_read_any_more_stays_as_it_was_and_its_deletion_counts(
    server: ApiServer, tmp_path: Path
) -> None:
    strange = event("a", 5) | {"involvedObject": None}
    server.items = [event("a", 1), event("b", 1), event("c", 1)]
    server.later = [strange, event("c", 7)]
    error = ("ERROR", {"code": 410, "message": "too old"})
    server.watches = [[("MODIFIED", strange), error], [("DELETED", strange), ("MODIFIED", event("c", 9, "new"))]]
    async with watching(server, tmp_path) as (watch, _):
        await until(lambda: "watch 7" in server.requests)
        await until(lambda: watch.objects["c"].message == "new")
        is_old = {name: entry.received_at < 0 for name, entry in watch.objects.items()}
        assert is_old == {"a": True, "b": True, "c": False}
        assert watch.objects["a"].object_name == "bindery-x"


async def test_a_watch_is_opened_again_in_time_and_each_time_proves_that_it_works(
    server: ApiServer, tmp_path: Path
) -> None:
    server.watches = [[], []]
    async with watching(server, tmp_path, kubernetes_watch_seconds=1) as (watch, health):
        await until(lambda: server.requests.count("watch 1") == 3)
        assert server.requests == ["list", "watch 1", "watch 1", "watch 1"]
        assert server.timeouts == {"1"}
        assert set(health) == {None}
        assert watch.staleness_seconds < 5
