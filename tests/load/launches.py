"""Many launches at once: how long they take, and how many end each second."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from tests.load.client import Outcome, Place, launch, percentile
from tests.load.stack import LoadStack, fresh_name
from tests.load.table import Row


@dataclass(frozen=True)
class Run:
    """A number of launches, some of them at once."""

    outcomes: list[Outcome]
    took: float

    @property
    def seconds(self) -> list[float]:
        return [outcome.seconds for outcome in self.outcomes if outcome.phase == "ready"]

    @property
    def per_second(self) -> float:
        return len(self.seconds) / self.took

    @property
    def failed(self) -> int:
        return len(self.outcomes) - len(self.seconds)

    @property
    def not_ready(self) -> str:
        phases = [outcome.phase for outcome in self.outcomes if outcome.phase != "ready"]
        return f"{len(phases)} not ready: {', '.join(sorted(set(phases)))}" if phases else ""

    def latency(self, measure: str, *, goal: str = "", note: str = "") -> Row:
        full_note = "; ".join(filter(None, (note, self.not_ready)))
        text, numbers = spread_ms(self.seconds)
        return Row(measure, text, goal=goal, note=full_note, numbers=numbers, failed=self.failed)


def spread_ms(seconds: list[float]) -> tuple[str, dict[str, float]]:
    """Return median and 99th percentile of some times, as text and as numbers."""
    p50, p99 = (percentile(seconds, share) * 1000 for share in (0.5, 0.99))
    return f"p50 {p50:.1f} ms, p99 {p99:.1f} ms", {"p50_ms": p50, "p99_ms": p99}


async def run(place: Place, path: Callable[[], str], launches: int, at_once: int) -> Run:
    """Make `launches` launches, `at_once` of them at any time."""
    remaining = iter(range(launches))
    outcomes: list[Outcome] = []

    async def one_after_another() -> None:
        outcomes.extend([await launch(place, path()) for _ in remaining])

    started_at = time.perf_counter()
    await asyncio.gather(*(one_after_another() for _ in range(at_once)))
    return Run(outcomes, time.perf_counter() - started_at)


async def storm(stack: LoadStack, specs: int) -> list[Row]:
    """Launch `specs` links that nobody has launched yet, all at once; their images are there, no fact is."""
    names = [fresh_name("storm", number) for number in range(specs)]
    for name in names:
        stack.make_image(name)
    number = count()
    before = stack.cpu()
    result = await run(stack.gateway, lambda: stack.git_spec(names[next(number)], "HEAD"), specs, specs)
    after = stack.cpu()
    each = sum(after[part] - before[part] for part in after) / specs * 1000
    goal = f"<= {4.3 * specs / 200:.1f} s, 26 ms each"
    text = f"{result.took:.2f} s, {each:.1f} ms of CPU each"
    note = result.not_ready or "images are there, facts are not"
    numbers = {"seconds": result.took, "cpu_ms": each}
    return [
        Row("Storm", ""),
        Row(
            f"{specs} new links (git, HEAD) at once", text, goal=goal, note=note, numbers=numbers, failed=result.failed
        ),
    ]
