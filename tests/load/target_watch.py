"""One build of a running Bindery or BinderHub and many watchers at the façade: the lines each gets, and when.

The target's clock and what the build prints are not ours, so that lateness is measured against the first of all
followers that got a line, and what is missing against the one that got most.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from tests.load.client import Place, percentile
from tests.load.launches import spread_ms
from tests.load.table import Row

BUILDING = {"fetching", "building", "pushing"}
ENDED = {"built", "launching", "ready", "failed", "cancelled"}
LATE_AFTER = 100
_SECONDS = 3600.0


@dataclass
class Follower:
    """One client of the build: the lines that it got and when, up to the end of the build."""

    lines: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    _: KW_ONLY
    has_enough: asyncio.Event = field(default_factory=asyncio.Event)
    last_phase: str = ""

    async def follow(self, place: Place, path: str) -> None:
        """Launch by the façade and leave when the build has ended."""
        rest = ""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            async for event in _events(place, path):
                phase = event.get("phase")
                if phase in BUILDING:
                    *whole, rest = (rest + event.get("message", "")).split("\n")
                    self.lines += whole
                    self.times += [time.perf_counter()] * len(whole)
                    if len(self.lines) >= LATE_AFTER:
                        self.has_enough.set()
                if phase in ENDED:
                    self.last_phase = phase
                    break
        self.has_enough.set()


async def _events(place: Place, path: str) -> AsyncIterator[dict[str, Any]]:
    reader, writer = await asyncio.open_connection(place.host, place.port, ssl=place.context, limit=1 << 22)
    try:
        writer.write(place.request("GET", path, Accept="text/event-stream"))
        while line := await reader.readline():
            if line.startswith(b"data:"):
                yield json.loads(line[5:])
    finally:
        writer.close()


async def measure(place: Place, spec: str, followers: int) -> list[Row]:
    """Follow the build of `spec` with so many clients, and with one more that comes after a hundred lines."""
    path = f"/build/{spec}"
    watching = [Follower() for _ in range(followers)]
    late = Follower()

    async def come_late() -> None:
        await watching[0].has_enough.wait()
        if not watching[0].last_phase:
            await late.follow(place, path)

    async with asyncio.timeout(_SECONDS), asyncio.TaskGroup() as tasks:
        for follower in watching:
            tasks.create_task(follower.follow(place, path))
        tasks.create_task(come_late())
    return rows(spec, watching, late)


def rows(spec: str, watching: list[Follower], late: Follower) -> list[Row]:
    """Return what the followers of one build saw."""
    most = max(watching, key=lambda follower: len(follower.lines))
    whole = [follower for follower in watching if follower.lines == most.lines]
    phases = sorted({follower.last_phase or "broken" for follower in watching})
    first = [min(times) for times in zip(*(follower.times for follower in whole), strict=True)]
    behind = [at - first_at for follower in whole for at, first_at in zip(follower.times, first, strict=True)]
    lag, numbers = spread_ms(behind)
    name = f"{len(watching)} followers"
    heading = Row(f"The build of {spec}", "", failed=sum(follower.last_phase != "ready" for follower in watching))
    if not most.lines:
        return [
            heading,
            Row(f"{name}: lines", "none", note=f"it was built before, or ended: {', '.join(phases)}"),
        ]
    text = f"{len(whole)} of {len(watching)} got all {len(most.lines)} lines"
    all_rows: list[Row] = [
        heading,
        Row(
            f"{name}: lines",
            text,
            goal="all",
            note=f"the build ended: {', '.join(phases)}",
            numbers={"whole": float(len(whole))},
        ),
        Row(
            f"{name}: behind the first who got a line",
            lag,
            note=f"worst {percentile(behind, 1) * 1000:.0f} ms",
            numbers=numbers,
        ),
    ]
    if late.lines:
        missing = len(most.lines) - len(late.lines)
        all_rows.append(
            Row(f"one more after {LATE_AFTER} lines", f"misses {missing}", goal="0", numbers={"missing": missing})
        )
    else:
        all_rows.append(
            Row(f"one more after {LATE_AFTER} lines", "not measured", goal="0", note="the build printed too few lines")
        )
    return all_rows
