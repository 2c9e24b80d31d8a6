"""Launches whose stories are given: what a gateway's pages, edge and scripts are tested with."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

from services.common.models import (
    Cause,
    Launch,
    LaunchId,
    LaunchOptions,
    LaunchState,
    Queue,
    ResolvedRepo,
    Server,
    Spec,
)
from services.common.models.error_codes import ErrorCode
from services.common.models.errors import BinderyError
from services.common.models.ids import launch_ref, new_launch_id
from services.common.models.server import ServerState
from services.common.streams.entries import failed_event

SHA = "3f9d2c41b7e05a8866d1c0f4a2b39e7710d5c8aa"

# One step of a story: seconds to wait, the launch's fields from then on, the event that tells of it.
Step = tuple[float, dict[str, Any], dict[str, Any]]
HOSTILE = "\x1b[31m<img src=x onerror=alert(1)>\x1b[0m \x1b]0;title\x07\u202egpj.exe\u202c"


def _repo(spec: Spec) -> ResolvedRepo:
    name = "/".join(spec.spec.split("/")[:2])
    url = f"https://github.com/{name}"
    return ResolvedRepo(
        provider=spec.provider, spec=spec.spec, repo_url=url, ref=SHA, resolved_spec=f"{name}/{SHA}",
        ref_url=f"{url}/tree/{SHA}", slug=name.replace("/", "-"), display_name=name,
    )  # fmt: skip


def _story(spec: Spec) -> list[Step]:
    """Return the steps of a launch: the repository's name says which."""
    repo = _repo(spec)
    build = "0123456789abcdef01234567-1"
    first: Step = (0.2, {"repo": repo}, {"phase": "resolving", "message": f"Found {repo.display_name} at {SHA}\n"})
    building: Step = (
        0.2,
        {"state": LaunchState.BUILDING, "build_id": build, "image": "i-1"},
        {"phase": "building", "state": "building", "build_id": build, "message": "Cloning\n"},
    )

    def line(text: str, phase: str = "building") -> Step:
        return (0.05, {}, {"phase": phase, "message": text})

    def fails(code: ErrorCode, detail: str, cause: Cause | None = None) -> Step:
        problem = BinderyError(code, detail, cause=cause).problem
        event = {"phase": "failed", "message": f"{detail}\n", "error": problem.model_dump(), "terminal": True}
        return (0.2, {"state": LaunchState.FAILED, "error": problem}, event)

    log = [
        line(f"Collecting package-{n}\n  Downloading package_{n}-1.{n}-py3-none-any.whl (1.{n} MB)\n")
        for n in range(30)
    ]
    serving: list[Step] = [
        (0.2, {"state": LaunchState.LAUNCHING, "server_id": "s1"}, {"phase": "built", "message": "Built image\n"}),
        (0.3, {}, {"phase": "launching", "message": "Spawning server\n"}),
        (0.3, {"state": LaunchState.READY}, {"phase": "ready", "message": "ready\n", "url": "x", "terminal": True}),
    ]
    if "missing" in spec.spec:
        return [
            fails("ref_not_found", f"There is no branch, tag or commit {spec.spec.split('/')[-1]} in {repo.repo_url}.")
        ]
    if "fails" in spec.spec:
        detail = "The installer could not find numpyy. Its own words are at the end of the log."
        before = [first, building, *log]
        cause = Cause(text="numpyy", after=f"{len(before)}-0.1", rule="pip:not-found")
        return [
            *before,
            line("ERROR: No matching distribution found for numpyy\n"),
            *[line(f"Removing package-{n}\n") for n in range(30)],
            fails("build_failed", detail, cause),
        ]
    if "queued" in spec.spec:
        waits = [
            (0.3, {"queue": Queue(reason="builders_busy", position=at, eta_seconds=50.0 * at)},
             {"phase": "waiting", "message": "", "queue": {"reason": "busy", "position": at, "eta_seconds": 50.0 * at}})
            for at in (3, 2)
        ]  # fmt: skip
        return [first, building, *waits, (3600.0, {}, {"phase": "waiting", "message": ""})]
    if "endless" in spec.spec:
        return [first, building, *log, line(f"{HOSTILE}\n"), (3600.0, {}, {"phase": "building", "message": "end\n"})]
    if "long" in spec.spec:
        many = [line("".join(f"line {n * 100 + at}\n" for at in range(100))) for n in range(100)]
        bar = [line(f"\r{percent} % of it") for percent in range(100)]
        return [first, building, *[(0.0, *step[1:]) for step in many], *bar, (3600.0, {}, {"phase": "building"})]
    if "warm" in spec.spec:
        return [first, (0.2, {"image": "i-1"}, {"phase": "built", "message": "Found built image\n"}), *serving[1:]]
    return [first, building, *log, *serving]


class FakeLaunches:
    """Launches whose story is in their repository's name: missing, fails, queued, endless, long, warm, or all well."""

    def __init__(self, server_url: str) -> None:
        self.server_url = server_url
        self.launches: dict[str, Launch] = {}
        self.events: dict[str, list[dict[str, Any]]] = {}
        self.requests: list[dict[str, Any]] = []
        self.server_state = ServerState.READY
        self.breaks_after = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._keys: dict[str, str] = {}

    async def start(
        self,
        spec: Spec,
        *,
        principal: str,
        options: LaunchOptions,
        client_ip: str,
        launch_host: str,
        idempotency_key: str = "",
        body_hash: str = "",
    ) -> tuple[Launch, bool]:
        if idempotency_key in self._keys:
            return self.launches[self._keys[idempotency_key]], False
        launch_id = new_launch_id()
        launch = Launch(
            launch_id=launch_id, launch_ref=launch_ref(launch_id), spec=spec, principal=principal, options=options,
            state=LaunchState.RESOLVING, created_at=time.time(), client_ip=client_ip, launch_host=launch_host,
        )  # fmt: skip
        self.launches[launch_id] = launch
        self.events[launch_id] = []
        if idempotency_key:
            self._keys[idempotency_key] = launch_id
        self.requests.append({"spec": str(spec), "options": options, "client_ip": client_ip, "host": launch_host})
        self._tasks.append(asyncio.create_task(self._live(launch_id)))
        return launch, True

    async def _live(self, launch_id: str) -> None:
        for seconds, changes, event in _story(self.launches[launch_id].spec):
            await asyncio.sleep(seconds)
            self._happens(launch_id, changes, event)

    def _happens(self, launch_id: str, changes: dict[str, Any], event: dict[str, Any]) -> None:
        launch = self.launches.get(launch_id)
        if launch is None or launch.state.is_final:
            return
        if changes.get("state") in {LaunchState.READY, LaunchState.FAILED, LaunchState.CANCELLED}:
            changes = {**changes, "finished_at": time.time()}
        self.launches[launch_id] = launch.updated(**changes)
        self.events[launch_id].append(event)

    async def read(self, launch_id: str, principal: str) -> Launch:
        if launch_id not in self.launches:
            raise BinderyError("not_found", "There is no such launch, or it was too long ago.")
        return self.launches[launch_id]

    async def cancel(self, launch_id: str, principal: str) -> None:
        launch = await self.read(launch_id, principal)
        if launch.state.is_final:
            raise BinderyError("conflict", "The launch has ended already.")
        problem = BinderyError("cancelled", "The launch was cancelled.").problem
        event = {"phase": "cancelled", "message": "The launch was cancelled.\n", "terminal": True}
        self._happens(launch_id, {"state": LaunchState.CANCELLED, "error": problem}, event)

    def lose(self, launch_id: str) -> None:
        """Let Redis lose a launch, and tell its followers."""
        problem = BinderyError("launch_lost", "Redis has lost this launch. Please launch again.").problem
        del self.launches[launch_id]
        self.events[launch_id].append({**failed_event(problem), "terminal": True})

    async def server(self, launch: Launch) -> Server | None:
        return Server(
            server_id=Server.identity("h", "u", ""), hub_id="h", user="u", server_name="", launch_ref=launch.launch_ref,
            state=self.server_state, image="i-1", repo_url="https://github.com/o/r", url=self.server_url, token="T",
            created_at=time.time(),
        )  # fmt: skip

    def put(self, **fields: Any) -> LaunchId:
        """Add a launch as it is, without a story."""
        launch_id = new_launch_id()
        defaults: dict[str, Any] = {
            "launch_id": launch_id,
            "launch_ref": launch_ref(launch_id),
            "spec": Spec(provider="gh", spec="o/r/HEAD"),
            "principal": "anon:x",
            "state": LaunchState.RESOLVING,
            "created_at": time.time() - 90,
        }
        self.launches[launch_id] = Launch(**defaults | fields)
        self.events[launch_id] = []
        return launch_id

    async def stream(self, launch_id: str, after: int) -> AsyncIterator[str]:
        """Yield the launch's events after number `after`. End too early after `breaks_after` of them, if set."""
        ends_at = after + self.breaks_after if self.breaks_after else -1
        while True:
            for at, event in enumerate(self.events[launch_id][after:], after + 1):
                yield f"id: {launch_id}~1-0.1~{at}-0.1\ndata: {json.dumps(event)}\n\n"
                after = at
                if event.get("terminal") or at == ends_at:
                    return
            await asyncio.sleep(0.02)

    async def aclose(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
