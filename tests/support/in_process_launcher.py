"""A launcher in the test's process, on a real Redis, and a small hub over HTTP that does what the test says."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

import pytest

from services.common.context import ProcessContext
from services.common.models import ResolvedRepo, Server, ServerRequest
from services.common.records.leases import ServiceMember
from services.common.service.health import Health
from services.common.streams.positions import STREAM_START
from services.launcher.cleanup.reaper import Reaper
from services.launcher.context import LauncherContext, open_launcher_context
from services.launcher.seats.seats import Seats
from services.launcher.servers import Servers, server_topic
from services.launcher.settings import LauncherSettings
from tests.load.stub_http import Answer, StubProtocol
from tests.load.stub_hub import StubHub
from tests.support.polling import until
from tests.support.settings import settings_for
from tests.support.valkey import QUICK, Valkey

REPO = ResolvedRepo(
    provider="git", spec="org/repo/a", repo_url="https://example.org/org/repo", ref="a", resolved_spec="org/repo/a",
    ref_url="https://example.org/org/repo", slug="repo", display_name="repo",
)  # fmt: skip


@dataclass(kw_only=True)
class FakeHub(StubHub):
    """A hub whose next answers to a call may be given, by how the call ends: `("POST", "/servers/")`.

    Of several that fit, the one that was given first decides.
    """

    scripted_answers: dict[tuple[str, str], deque[Answer]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    port: int = 0

    def __post_init__(self) -> None:
        """Begin as the hub that this one is, without users."""
        super().__init__()

    def answer(self, method: str, ends: str, *answers: Answer) -> None:
        """Give these answers, one after the other; the last one for good."""
        self.scripted_answers[method, ends] = deque(answers)

    def handle(self, method: str, target: str, head: bytes, body: bytes) -> Answer:
        path = target.partition("?")[0]
        self.calls.append(f"{method} {path}")
        for (scripted_method, ends), answers in self.scripted_answers.items():
            if scripted_method == method and path.endswith(ends):
                answer = answers.popleft() if len(answers) > 1 else answers[0]
                if answer[0]:
                    return answer
                break  # as always
        return super().handle(method, target, head, body)


AS_ALWAYS: Answer = (0, "", b"", {})
NOTHING: Answer = (-1, "", b"", {})
"""No answer at all; the connection stays open."""


def begins(body: bytes, *, every_seconds: float = 0.0) -> Answer:
    """Return an event stream with these events, `every_seconds` apart, and then silence on an open connection."""
    return -2, "text/event-stream", body, {"every": str(every_seconds)}


class _Protocol(StubProtocol):
    """A connection on which the hub may fall silent."""

    def _answer(self, answer: Answer) -> None:
        if answer[0] == -2:
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\n\r\n" % answer[1].encode())
            for number, event in enumerate(answer[2].split(b"\n\n")[:-1]):
                due = number * float(answer[3]["every"])
                asyncio.get_running_loop().call_later(due, self.transport.write, event + b"\n\n")
        elif answer[0] != -1:
            super()._answer(answer)


@contextlib.asynccontextmanager
async def running_hub() -> AsyncIterator[FakeHub]:
    hub = FakeHub()
    server = await asyncio.get_running_loop().create_server(lambda: _Protocol(hub.handle), "127.0.0.1", 0)
    hub.port = server.sockets[0].getsockname()[1]
    try:
        yield hub
    finally:
        server.close()


@pytest.fixture
async def hub() -> AsyncIterator[FakeHub]:
    """A hub that does what the test says."""
    async with running_hub() as hub:
        yield hub


@dataclass
class Launcher:
    """One launcher process, and what tests do with it."""

    parts: LauncherContext
    hub: FakeHub

    @property
    def context(self) -> ProcessContext:
        return self.parts.common

    @property
    def settings(self) -> LauncherSettings:
        return self.parts.settings

    @property
    def member(self) -> ServiceMember:
        return self.parts.member

    @property
    def seats(self) -> Seats:
        return self.parts.seats

    @property
    def servers(self) -> Servers:
        return self.parts.servers

    @property
    def reaper(self) -> Reaper:
        return self.parts.reaper

    async def request_server(self, launch_ref: str = "ref", launch_id: str = "") -> Server:
        """Ask for a launch's server."""
        request = ServerRequest(launch_ref=launch_ref, launch_id=launch_id, repo=REPO, image="image:a")
        return await self.servers.start(request)

    async def outcome(self, server: Server, *, seconds: float = 10) -> Server:
        """Wait until the task of a server has ended; return what its record says then."""
        await until(lambda: not self.member.owns(server_topic(server.server_id)), "the start ends", seconds=seconds)
        return await self.servers.read(server.server_id)

    async def messages(self, server: Server) -> str:
        """Return every message of a server's topic."""
        async with self.context.bus.follow(server_topic(server.server_id), lambda: None) as reader:
            entries = await reader.after(STREAM_START)
        return "".join(event.get("message", "") for entry in entries for event in entry.events)

    async def until_message(self, server: Server, sentence: str) -> None:
        """Wait until a message of a server's topic holds `sentence`."""

        async def is_in_messages() -> bool:
            return sentence in await self.messages(server)

        await until(is_in_messages, f"{sentence!r} is told")

    async def until_counted(self) -> None:
        """Wait until it is known how many servers run."""

        async def is_counted() -> bool:
            return bool(await self.context.redis.get(self.context.keys("seats:counted")) == b"yes")

        await until(is_counted, "what runs is counted")


@contextlib.asynccontextmanager
async def open_launcher(valkey: Valkey, hub: FakeHub, **others: object) -> AsyncIterator[Launcher]:
    """Open one launcher process, as far as Redis and the hub can tell; it has counted, unless with `counts=False`.

    `others` are settings.
    """
    counts = others.pop("counts", True)
    settings = settings_for(LauncherSettings, {
        "redis_url": valkey.url, "data_dir": valkey.data_dir, "installation_id": "test",
        "hub_api_url": f"http://127.0.0.1:{hub.port}/hub/api/", "retry_pause_seconds": 0.02,
        "recount_seconds": 0.3, **QUICK, **others,
    })  # fmt: skip
    async with open_launcher_context(settings, Health()) as parts:
        launcher = Launcher(parts, hub)
        if counts:
            await launcher.until_counted()
            hub.calls.clear()
        yield launcher


StartLauncher = Callable[..., AbstractAsyncContextManager[Launcher]]
"""Starts a launcher at the test's hub, on its empty Redis; its arguments are settings."""


@pytest.fixture
def start_launcher(valkey: Valkey, redis: object, hub: FakeHub) -> StartLauncher:
    """The function that opens a launcher at `hub` with some settings, until its block ends."""

    def start(**settings: object) -> AbstractAsyncContextManager[Launcher]:
        return open_launcher(valkey, hub, **settings)

    return start
