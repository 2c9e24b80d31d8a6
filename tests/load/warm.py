"""Launches of an image that is there already: our overhead over the hub's own time, and what one launch costs.

The hub is a stub, which takes next to no time for a server: what is left of a launch without that time is ours.
"""

import asyncio
import time
from dataclasses import dataclass

from tests.load.launches import Run, run, spread_ms
from tests.load.stack import LoadStack
from tests.load.table import Row

_UPKEEP_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class Link:
    """A launch link of an image that is there, and what DESIGN section 9 wants of it."""

    name: str
    path: str
    overhead_alone: str
    """Goal of the overhead of one launch alone."""
    cpu: str
    per_second: str
    """Goal of the launches per second with 200 at once."""
    calls: str = ""

    def __call__(self) -> str:
        return self.path


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What launches took of the machine, all our processes together; upkeep of an idle Bindery is left out."""

    cpu_ms: dict[str, float]
    """Of each process, per launch."""
    commands: float
    """Of Redis, per launch; those within scripts among them."""
    round_trips: float
    http: dict[str, float]
    """HTTP calls per launch, by who is called."""

    def rows(self, name: str, link: Link) -> list[Row]:
        cpu = sum(self.cpu_ms.values())
        calls = sum(self.http.values())
        parts = ", ".join(f"{part} {ms:.1f}" for part, ms in self.cpu_ms.items() if ms >= 0.05)
        peers = ", ".join(f"{peer} {number:.1f}" for peer, number in self.http.items() if number >= 0.05)
        text = f"{self.round_trips:.1f} round trips, {self.commands:.0f} commands; {calls:.1f} HTTP calls"
        numbers = {"redis_round_trips": self.round_trips, "redis_commands": self.commands, "http_calls": calls}
        return [
            Row(
                f"{name}: CPU per launch",
                f"{cpu:.1f} ms",
                goal=link.cpu,
                note=parts,
                numbers={"total_ms": cpu} | self.cpu_ms,
            ),
            Row(f"{name}: Redis and HTTP per launch", text, goal=link.calls, note=f"calls: {peers}", numbers=numbers),
        ]


async def measure(stack: LoadStack, launches: int, levels: list[int]) -> list[Row]:
    """Launch warm by sha and by HEAD, at each of `levels` launches at a time."""
    sha = stack.make_image("load/warm")
    of_head = {"overhead_alone": "p50 <= 12 ms", "cpu": "<= 6.9 ms", "per_second": ">= 198 /s"}
    links = [
        Link(
            name="sha",
            path=stack.git_spec("load/warm", sha),
            overhead_alone="p50 <= 7.8 ms",
            cpu="<= 4.7 ms",
            per_second=">= 303 /s",
            calls="<= 8 and 4 calls",
        ),
        Link(name="HEAD (git)", path=stack.git_spec("load/warm", "HEAD"), **of_head),
        Link(name="HEAD (gh)", path=stack.gh_spec("load/warm", "HEAD"), **of_head),
    ]
    for link in links:  # connections are made, facts are known
        await run(stack.gateway, link, max(levels), max(levels))
    upkeep = await _upkeep(stack)
    rows = []
    for link in links:
        rows.append(Row(f"Warm launch by {link.name}; the hub is a stub", ""))
        for level in levels:
            some = max(20, launches // 4) if level == 1 else max(launches, level)
            rows += await _level(stack, link, some, level, upkeep)
    return rows


async def _upkeep(stack: LoadStack) -> float:
    """Return the commands a second that Redis gets from a Bindery with nothing to do."""
    before = await stack.redis_commands()
    started_at = time.monotonic()
    await asyncio.sleep(_UPKEEP_SECONDS)
    return (await stack.redis_commands() - before) / (time.monotonic() - started_at)


async def _level(stack: LoadStack, link: Link, launches: int, level: int, upkeep: float) -> list[Row]:
    await stack.hub_seconds()
    before = await _Counters.at(stack)
    result = await run(stack.gateway, link, launches, level)
    cost = (await _Counters.at(stack)).since(before, result, upkeep)
    own = await stack.hub_seconds()
    name = f"{link.name}, {'alone' if level == 1 else f'{level} at once'}"
    ready = [outcome for outcome in result.outcomes if outcome.phase == "ready"]
    overhead, numbers = spread_ms([outcome.seconds - own.get(outcome.user, 0.0) for outcome in ready])
    hub, hub_numbers = spread_ms([own[outcome.user] for outcome in ready if outcome.user in own])
    return [
        result.latency(f"{name}: launch"),
        Row(f"{name}: the stub hub's own time", hub, numbers=hub_numbers),
        Row(f"{name}: our overhead", overhead, goal=link.overhead_alone if level == 1 else "", numbers=numbers),
        Row(
            f"{name}: rate", f"{result.per_second:.0f} launches/s", goal=link.per_second if level == 200 else "",
            numbers={"per_second": result.per_second},
        ),
        *cost.rows(name, link),
    ]  # fmt: skip


@dataclass(frozen=True)
class _Counters:
    cpu: dict[str, float]
    commands: float
    calls: dict[str, float]

    @classmethod
    async def at(cls, stack: LoadStack) -> "_Counters":
        return cls(stack.cpu(), await stack.redis_commands(), await stack.counts())

    def since(self, before: "_Counters", result: Run, upkeep: float) -> Cost:
        """Return what each launch cost from then until now."""
        number = len(result.outcomes)
        calls = {key: (value - before.calls.get(key, 0.0)) / number for key, value in self.calls.items()}
        http: dict[str, float] = {}
        for key, value in calls.items():
            if "http" in key:
                peer = key.partition('peer="')[2].partition('"')[0]
                http[peer] = http.get(peer, 0.0) + value
        return Cost(
            cpu_ms={part: (used - before.cpu[part]) / number * 1000 for part, used in self.cpu.items()},
            commands=max(0.0, self.commands - before.commands - upkeep * result.took) / number,
            round_trips=sum(value for key, value in calls.items() if "redis" in key),
            http=http,
        )
