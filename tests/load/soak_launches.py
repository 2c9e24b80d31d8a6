"""Random launches of a soak: of each it is known how it must end, and what its follower must have been told by then."""

import asyncio
import contextlib
import json
import random
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass, field
from typing import Any
from uuid import uuid4

from tests.load.client import Place, fetch
from tests.load.soak_stack import SoakStack
from tests.support.forge import Forge

WEIGHTS = {"warm": 4, "cold": 3, "failing": 1, "cancelled": 1, "abandoned": 1}
"""How often each kind of launch comes."""
EXPECTED = {
    "warm": ("ready", ""),
    "cold": ("ready", ""),
    "failing": ("failed", "build_failed"),
    "cancelled": ("cancelled", "cancelled"),
    "abandoned": ("cancelled", "abandoned"),
}
"""State and error code that a launch of each kind must end with."""
LINES = {"cold": 40, "failing": 20, "cancelled": 900, "abandoned": 600}
"""Lines of the builds, ten a second. Those that are given up would outlast what comes before, faults included."""
OUTCOME_SECONDS = 90.0
"""Longest time of a launch: a build of seconds, and some processes that die or stand still under it."""
_TERMINAL = {"ready", "failed", "cancelled"}
_SCRIPT = """#!/bin/sh
n=0
while [ $n -lt {lines} ]; do n=$((n + 1)); echo "line $n"; sleep 0.1; done
exit {status}
"""


@dataclass
class SoakLaunch:
    """One launch by the v1 API, with a follower that goes to the other gateway whenever it is cut off."""

    kind: str
    spec: str
    places: list[Place]
    _: KW_ONLY
    launch_id: str = ""
    ids: list[str] = field(default_factory=list)
    text: str = ""
    terminal: dict[str, Any] = field(default_factory=dict)
    code: str = ""
    seconds: float = 0.0
    connections: int = 0
    problems: list[str] = field(default_factory=list)

    async def create(self) -> None:
        """Request the launch, again and again under one Idempotency-Key until a gateway has taken it."""
        key = uuid4().hex
        body = {"provider": "git", "spec": self.spec}
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, IndexError, TimeoutError):
                async with asyncio.timeout(15):
                    headers = {"Idempotency_Key": key, "Content_Type": "application/json"}
                    status, reply = await fetch(self._place(), "POST", "/api/v1/launches", body, **headers)
                if status in {200, 202}:  # 200: a gateway took it, and was cut off before its answer
                    self.launch_id = str(json.loads(reply)["launch_id"])
                    return
                if status < 500:
                    raise RuntimeError(f"refused: {status} {reply!r}")
            self.connections += 1
            await asyncio.sleep(0.2)

    async def cancel(self) -> None:
        """Cancel the launch, repeated until a gateway has taken that."""
        while not self.terminal:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, IndexError, TimeoutError):
                async with asyncio.timeout(15):
                    status, _ = await fetch(self._place(), "DELETE", f"/api/v1/launches/{self.launch_id}")
                if status in {202, 409}:
                    return
            self.connections += 1
            await asyncio.sleep(0.2)

    async def follow(self, until: str = "") -> None:
        """Follow until the launch has ended, or until the text so far contains `until`."""
        while not self.terminal and not (until and until in self.text):
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
                await self._follow_once(until)
            self.connections += 1
            if not self.terminal:
                await asyncio.sleep(0.1)

    def _place(self) -> Place:
        return self.places[self.connections % len(self.places)]

    async def _follow_once(self, until: str) -> None:
        place = self._place()
        headers = {"Last_Event_ID": self.ids[-1]} if self.ids else {}
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection(place.host, place.port, limit=1 << 22)
        try:
            path = f"/api/v1/launches/{self.launch_id}/events"
            writer.write(place.request("GET", path, Accept="text/event-stream", **headers))
            event_id = ""
            data = b""
            while not self.terminal and not (until and until in self.text):
                async with asyncio.timeout(30):  # the gateway sends a keepalive sooner
                    line = await reader.readline()
                if not line.endswith(b"\n"):
                    return
                if line.startswith(b"id:"):
                    event_id = line[3:].decode().strip()
                elif line.startswith(b"data:"):
                    data = line[5:]
                elif not line.strip() and data:
                    self._on_event(event_id, json.loads(data))
                    event_id = ""
                    data = b""
        finally:
            writer.close()

    def _on_event(self, event_id: str, event: dict[str, Any]) -> None:
        if event_id:
            self.ids.append(event_id)
        self.text += str(event.get("message") or "")
        if event.get("phase") in _TERMINAL:
            self.terminal = event
            self.code = str((event.get("error") or {}).get("code") or "")

    # What must be true

    @property
    def user(self) -> str:
        """The hub's user of a launch that is ready."""
        return str(self.terminal.get("url") or "").partition("/user/")[2].partition("/")[0]

    def check(self) -> None:
        """Note what is not as it must be."""
        outcome = (str(self.terminal.get("phase")), self.code)
        if outcome != EXPECTED[self.kind]:
            self.problems.append(f"ended {outcome}: {self.text[-300:]!r}")
        if twice := [one for one, times in Counter(self.ids).items() if times > 1]:
            self.problems.append(f"{len(twice)} events twice: {twice[:3]}")

        lines = [int(line.split()[1]) for line in self.text.splitlines() if line.startswith("line ")]
        if lines != list(range(1, len(lines) + 1)):
            self.problems.append(f"lines lost or twice: {lines}")
        if self.kind in {"cold", "failing"} and len(lines) != LINES[self.kind]:
            self.problems.append(f"{len(lines)} of {LINES[self.kind]} lines")


class Launcher:
    """Starts random launches, follows each to its end, and keeps what went wrong."""

    def __init__(self, stack: SoakStack, forge: Forge, random_numbers: random.Random) -> None:
        self._stack = stack
        self._forge = forge
        self._random = random_numbers
        self._warm_sha = stack.make_image("soak/warm")
        self._count = 0
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.seconds: dict[str, list[float]] = {kind: [] for kind in WEIGHTS}
        self.problems: list[str] = []
        self.users: set[str] = set()
        """Users of the hub that launches were told of."""

    async def run(self, *, seconds: float, every_seconds: float) -> None:
        """Launch at random times for `seconds`, on the average each `every_seconds`; return when all have ended."""
        until = time.monotonic() + seconds
        async with asyncio.TaskGroup() as launches:
            while time.monotonic() < until:
                (kind,) = self._random.choices(list(WEIGHTS), list(WEIGHTS.values()))
                launches.create_task(self._one(kind))
                await asyncio.sleep(self._random.expovariate(1 / every_seconds))

    async def _one(self, kind: str) -> None:
        self._count += 1
        launch = SoakLaunch(kind, await self._spec(kind, self._count), self._random.sample(self._stack.gateways, 2))
        started_at = time.monotonic()
        try:
            async with asyncio.timeout(OUTCOME_SECONDS):
                await launch.create()
                await self._follow(launch)
            launch.check()
            outcome = launch.code or str(launch.terminal["phase"])
        except TimeoutError:
            launch.problems.append(f"no end within {OUTCOME_SECONDS:g} s: {launch.text[-300:]!r}")
            outcome = "none"
        except Exception as error:  # noqa: BLE001 - whatever it is, the table says it
            launch.problems.append(f"{type(error).__name__}: {error}")
            outcome = "broken"

        launch.seconds = time.monotonic() - started_at
        self.seconds[kind].append(launch.seconds)
        self.outcomes[kind, outcome] += 1
        self.problems += [f"{kind} {launch.launch_id}: {problem}" for problem in launch.problems]
        if launch.user:
            await self._leave(launch)

    async def _follow(self, launch: SoakLaunch) -> None:
        if launch.kind == "cancelled":
            await launch.follow(until="line 5\n")
            async with asyncio.TaskGroup() as both:
                both.create_task(launch.cancel())
                both.create_task(launch.follow())
        elif launch.kind == "abandoned":
            await launch.follow(until="line 5\n")
            await self._until_abandoned(launch)
        else:
            await launch.follow()

    async def _until_abandoned(self, launch: SoakLaunch) -> None:
        """Wait for the end in the record: to ask a gateway would be to follow."""
        key = f"{self._stack.prefix}{{l:{launch.launch_id}}}:record"
        async with self._stack.redis() as client:
            while True:
                with contextlib.suppress(OSError, TimeoutError):
                    final, body = await client.hmget(key, "final", "body")
                    if final:
                        break
                await asyncio.sleep(0.5)
        record = json.loads(body)
        launch.terminal = {"phase": record["state"]}
        launch.code = str((record.get("error") or {}).get("code") or "")

    async def _leave(self, launch: SoakLaunch) -> None:
        """Check that there is one server, and end it, as the culler does when its user has left."""
        self.users.add(launch.user)
        user = (await self._stack.hub_users()).get(launch.user)
        if user is None or len(user["servers"]) != 1:
            self.problems.append(f"{launch.kind} {launch.launch_id}: its server is not at the hub: {user}")
        await asyncio.sleep(self._random.uniform(0, 3))
        await self._stack.remove_user(launch.user)

    async def _spec(self, kind: str, number: int) -> str:
        if kind == "warm":
            return f"{self._stack.quoted('soak/warm')}/{self._warm_sha}"
        script = _SCRIPT.format(lines=LINES[kind], status=int(kind == "failing"))
        name = f"{kind}-{number}"
        sha = await asyncio.to_thread(self._forge.create_repo, "soak", name, {"postBuild": script})
        return f"{self._stack.quoted(f'soak/{name}', self._forge.url)}/{sha}"

    def take_problems(self) -> list[str]:
        """Return what went wrong since the last call."""
        problems = self.problems
        self.problems = []
        return problems

    def doubled(self, starts: dict[str, int]) -> Iterable[str]:
        """Yield what was done twice, or for nobody, at the hub."""
        for user, times in starts.items():
            if times > 1:
                yield f"the server of {user} was started {times} times"
            if user not in self.users:
                yield f"the server of {user} was started for a launch that was not told of it"
