"""Launches of an image that is there already: how long they take, how many a second, and what one costs."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from tests.load.client import Outcome, Place, ask, launch, percentile
from tests.load.stack import LoadStack, fresh_name
from tests.load.table import Row


@dataclass(frozen=True)
class Run:
    """A number of launches, so many of them at once."""

    outcomes: list[Outcome]
    took: float

    @property
    def seconds(self) -> list[float]:
        return [one.seconds for one in self.outcomes if one.phase == "ready"]

    @property
    def per_second(self) -> float:
        return len(self.seconds) / self.took

    @property
    def failed(self) -> int:
        return len(self.outcomes) - len(self.seconds)

    @property
    def not_ready(self) -> str:
        wrong = [one.phase for one in self.outcomes if one.phase != "ready"]
        return f"{len(wrong)} not ready: {', '.join(sorted(set(wrong)))}" if wrong else ""

    def latency(self, measure: str, *, minus: float = 0.0, goal: str = "", note: str = "") -> Row:
        p50, p99 = (max(0.0, percentile(self.seconds, share) - minus) * 1000 for share in (0.5, 0.99))
        said = "; ".join(filter(None, (note, self.not_ready)))
        text = f"p50 {p50:.1f} ms, p99 {p99:.1f} ms"
        return Row(measure, text, goal, said, {"p50_ms": p50, "p99_ms": p99}, failed=self.failed)


async def run(place: Place, path: Callable[[], str], launches: int, at_once: int) -> Run:
    """Make `launches` launches, `at_once` of them at any time."""
    left = iter(range(launches))
    outcomes: list[Outcome] = []

    async def one_after_another() -> None:
        outcomes.extend([await launch(place, path()) for _ in left])

    begun = time.perf_counter()
    await asyncio.gather(*(one_after_another() for _ in range(at_once)))
    return Run(outcomes, time.perf_counter() - begun)


async def hub_seconds(place: Place, launches: int) -> float:
    """The median time in which the hub itself makes a user and a server, and says that it is ready."""
    taken = []
    for number in range(launches):
        user = f"direct-{number}"
        begun = time.perf_counter()
        await ask(place, "POST", f"/users/{user}")
        await ask(place, "POST", f"/users/{user}/servers/", {"image": "image", "token": "token"})
        await ask(place, "GET", f"/users/{user}/server/progress")
        taken.append(time.perf_counter() - begun)
    return percentile(taken, 0.5)


def _always(path: str) -> Callable[[], str]:
    return lambda: path


async def warm(stack: LoadStack, launches: int, at_once: int) -> list[Row]:
    """Warm launches by sha and by HEAD: alone, twenty at a time, `at_once` at a time; CPU and calls of one."""
    sha = stack.make_image("load/warm")
    links = {
        "sha": _always(stack.git_spec("load/warm", sha)),
        "HEAD (git)": _always(stack.git_spec("load/warm", "HEAD")),
        "HEAD (gh)": _always(stack.gh_spec("load/warm", "HEAD")),
    }
    for link in links.values():  # connections are made, facts are known
        await run(stack.gateway, link, at_once, at_once)
    hub = await hub_seconds(stack.hub, 50)
    rows = [
        Row("Warm launch", ""),
        Row("the stub hub itself: user, server, ready", f"p50 {hub * 1000:.1f} ms", note="subtracted when alone"),
    ]
    alone_goal = {"sha": "p50 <= 7.8 ms", "HEAD (git)": "p50 <= 12 ms", "HEAD (gh)": "p50 <= 12 ms"}
    rate_goal = {"sha": ">= 303 /s", "HEAD (git)": ">= 198 /s", "HEAD (gh)": ">= 198 /s"}
    for name, link in links.items():
        alone = await run(stack.gateway, link, max(20, launches // 4), 1)
        rows.append(alone.latency(f"{name}, alone, without the hub", minus=hub, goal=alone_goal[name]))
    for name, link in links.items():
        some = await run(stack.gateway, link, launches, 20)
        rows.append(some.latency(f"{name}, 20 at once", note="hub included"))
        rows += await _many(stack, name, link, launches, at_once, rate_goal[name])
    rows += await _calls(stack, links)
    return rows


async def _many(
    stack: LoadStack, name: str, link: Callable[[], str], launches: int, at_once: int, goal: str
) -> list[Row]:
    before = stack.cpu()
    many = await run(stack.gateway, link, max(launches, 2 * at_once), at_once)
    after = stack.cpu()
    row = Row(
        f"{name}, {at_once} at once", f"{many.per_second:.0f} launches/s", goal, many.not_ready,
        {"per_second": many.per_second},
    )  # fmt: skip
    spent = {part: (after[part] - before[part]) / len(many.outcomes) * 1000 for part in after}
    text = f"{sum(spent.values()):.1f} ms"
    parts = ", ".join(f"{part} {ms:.1f}" for part, ms in spent.items() if ms >= 0.05)
    cpu_goal = "<= 4.7 ms" if name == "sha" else "<= 6.9 ms"
    latency = many.latency(f"{name}, {at_once} at once", note="hub included")
    return [
        row,
        latency,
        Row(f"{name}, CPU per launch", text, cpu_goal, parts, {"total_ms": sum(spent.values())} | spent),
    ]


async def _calls(stack: LoadStack, links: dict[str, Callable[[], str]]) -> list[Row]:
    """Redis round trips and HTTP calls that one launch causes, in all processes; upkeep is not counted."""
    launches = 50
    rows = []
    for name, link in links.items():
        before = await stack.counts()
        await run(stack.gateway, link, launches, 1)
        after = await stack.counts()
        each = {key: (value - before.get(key, 0.0)) / launches for key, value in after.items()}
        redis = sum(value for key, value in each.items() if "redis" in key)
        http = sum(value for key, value in each.items() if "http" in key)
        called = {key.partition('peer="')[2].partition('"')[0]: value for key, value in each.items() if "http" in key}
        peers = ", ".join(f"{peer} {calls:.1f}" for peer, calls in called.items() if calls >= 0.05)
        goal = "<= 8 and 4" if name == "sha" else ""
        text = f"{redis:.1f} Redis round trips, {http:.1f} HTTP calls"
        rows.append(Row(f"{name}, calls per launch", text, goal, peers, {"redis": redis, "http": http}))
    return rows


async def storm(stack: LoadStack, specs: int) -> list[Row]:
    """Launches of `specs` links that nobody has launched yet, all at once; their images are there, no fact is."""
    names = [fresh_name("storm", number) for number in range(specs)]
    for name in names:
        stack.make_image(name)
    number = count()
    before = stack.cpu()
    made = await run(stack.gateway, lambda: stack.git_spec(names[next(number)], "HEAD"), specs, specs)
    after = stack.cpu()
    each = sum(after[part] - before[part] for part in after) / specs * 1000
    goal = f"<= {4.3 * specs / 200:.1f} s, 26 ms each"
    text = f"{made.took:.2f} s, {each:.1f} ms of CPU each"
    note = made.not_ready or "images are there, facts are not"
    numbers = {"seconds": made.took, "cpu_ms": each}
    return [Row("Storm", ""), Row(f"{specs} new links (git, HEAD) at once", text, goal, note, numbers, made.failed)]
