"""A spawner whose servers cost no process, and a proxy that routes nowhere: for a real hub under many launches.

Runs inside the hub, so it imports nothing but that. The image says what becomes of a server: `brief:a` is up after a
second and ends two seconds after that, `lasting:a` stays, `slow:a` is up after five, `failing:a` fails with the words
that its log would have.
"""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar

from jupyterhub.proxy import Proxy
from jupyterhub.spawner import Spawner
from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler

UP_AFTER_SECONDS = {"slow": 5.0}
ENDS_AFTER_SECONDS = {"brief": 2.0, "lasting": 1e9, "slow": 1e9}
POLLS_BEFORE_END = 3
PROXY_AWAY = Path("proxy-away")
"""While there is such a file in the hub's folder, the proxy takes no routes."""
PORT = int(os.environ.get("BRIEF_SERVERS_PORT", "0"))
"""Where all servers answer, in the hub's own process."""


class _Answers(RequestHandler):
    def get(self) -> None:
        """Answer for every server; and under /peaks, how many there have been at once."""
        if self.request.path == "/peaks":
            self.write(json.dumps(BriefSpawner.peaks))


class BriefSpawner(Spawner):  # type: ignore[misc]  # JupyterHub is read as untyped
    """Knows by the clock what its server would be doing."""

    running: ClassVar[set[str]] = set()
    starting: ClassVar[set[str]] = set()
    peaks: ClassVar[dict[str, int]] = {"running": 0, "starting": 0, "starts": 0, "followed": 0}
    answering: ClassVar[HTTPServer | None] = None

    ends = 0.0
    polls = 0

    def _serve(self) -> None:
        if BriefSpawner.answering is None:
            BriefSpawner.answering = HTTPServer(Application([(".*", _Answers)]))
            BriefSpawner.answering.listen(PORT, "127.0.0.1")

    def _count(self) -> None:
        self.peaks["running"] = max(self.peaks["running"], len(self.running))
        self.peaks["starting"] = max(self.peaks["starting"], len(self.starting))

    def _end(self) -> None:
        self.running.discard(self._log_name)
        self.starting.discard(self._log_name)
        self.ends = 0.0

    async def start(self) -> str:
        self._serve()
        kind = str(self.user_options["image"]).partition(":")[0]
        self.peaks["starts"] += 1
        self.running.add(self._log_name)
        self.starting.add(self._log_name)
        self._count()
        try:
            await asyncio.sleep(UP_AFTER_SECONDS.get(kind, 1.0))
        finally:
            self.starting.discard(self._log_name)
        if kind == "failing":
            self._end()
            raise RuntimeError("Back-off restarting failed container notebook in pod x: OOMKilled")
        self.ends = time.time() + ENDS_AFTER_SECONDS[kind]
        self.polls = 0
        return f"http://127.0.0.1:{PORT}"

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """Tell of the start for as long as it takes, as KubeSpawner and ours do."""
        self.peaks["followed"] += 1
        yield {"progress": 10, "message": "Starting"}
        await asyncio.Event().wait()

    async def stop(self, now: bool = False) -> None:
        self._end()

    async def poll(self) -> int | None:
        self._serve()
        if self._log_name in self.starting:
            return None
        if not self.pending:
            self.polls += 1
        # A busy hub must know and have told that the server is up before that ends: it can't follow an earlier end.
        if time.time() < self.ends or (self.ends and self.polls < POLLS_BEFORE_END):
            self.running.add(self._log_name)  # another hub started it
            self._count()
            return None
        self._end()
        return 0

    def get_state(self) -> dict[str, Any]:
        return {**super().get_state(), "ends": self.ends}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self.ends = state.get("ends", 0.0)

    def clear_state(self) -> None:
        super().clear_state()
        self.ends = 0.0


class NoProxy(Proxy):  # type: ignore[misc]
    """Remembers routes."""

    should_start = False

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.routes: dict[str, dict[str, Any]] = {}

    async def add_route(self, routespec: str, target: str, data: dict[str, Any]) -> None:
        if PROXY_AWAY.exists():
            raise ConnectionRefusedError("the proxy is away")
        self.routes[routespec] = {"routespec": routespec, "target": target, "data": data}

    async def delete_route(self, routespec: str) -> None:
        self.routes.pop(routespec, None)

    async def get_all_routes(self) -> dict[str, dict[str, Any]]:
        return dict(self.routes)
