"""A soak: two of each part, random launches, and a fault each few seconds, for as long as one likes.

It goes in rounds. In each there are launches and faults for a minute and a half; then all that is under way ends, what
is remembered of it expires, nothing may be left, and a sample is taken of what the processes hold.
`python -m tests.load --only soak --minutes 30`.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.load.soak_faults import EVERY_SECONDS, FaultMaker
from tests.load.soak_launches import EXPECTED, Launcher
from tests.load.soak_samples import TOLERANCE, Sample
from tests.load.soak_samples import rows as rows_of_samples
from tests.load.soak_stack import SoakStack
from tests.load.table import Row
from tests.support.forge import Forge

ROUND_SECONDS = 90.0
"""Launches of one round; faults go on until the last of them has ended."""
REPLACE_SECONDS = 45.0
"""From then on no part is replaced in a round, so that all those of a sample have worked for about as long."""
REST_SECONDS = 8.0
"""Between the end of all work and the sample: connections that are kept for a while are closed by then."""
EMPTY_SECONDS = 120.0
"""Time in which nothing may be left of a round: builds of launches that were abandoned end, seats are freed."""
LAUNCH_EVERY_SECONDS = 2.5


async def measure(folder: Path, *, minutes: float, seed: int, say: Callable[[str], None]) -> list[Row]:
    """Run rounds for so many minutes, at least three."""
    say(f"soak of {minutes:g} minutes, seed {seed}")
    stack = SoakStack(folder)
    numbers = random.Random(seed)  # a soak that failed can be repeated
    samples: list[Sample] = []
    problems: list[str] = []
    reported = 0
    try:
        await stack.start()
        with Forge(folder / "repos") as forge:
            launcher = Launcher(stack, forge, numbers)
            faults = FaultMaker(stack, numbers)
            until = time.monotonic() + minutes * 60
            while time.monotonic() < until or len(samples) < 3:
                over = asyncio.Event()
                async with asyncio.TaskGroup() as both:
                    both.create_task(faults.run(over, replace_seconds=REPLACE_SECONDS))
                    await launcher.run(seconds=ROUND_SECONDS, every_seconds=LAUNCH_EVERY_SECONDS)
                    over.set()
                problems += await _rest(stack)
                samples.append(await Sample.of(stack))
                say(f"round {len(samples)}: {launcher.outcomes.total()} launches, {faults.count.total()} faults so far")
                problems += launcher.take_problems()
                for problem in problems[reported:]:
                    say(problem)
                reported = len(problems)
        problems += launcher.doubled(await stack.hub_starts())
        return [*_launch_rows(launcher, problems), *_fault_rows(faults), *rows_of_samples(samples)]
    finally:
        await stack.stop()


async def _rest(stack: SoakStack) -> list[str]:
    """Wait until nothing is under way; return what is left, and what has ended that nobody ended."""
    left: list[str] = []
    for what, condition in (
        ("launches and builds that go on", stack.unfinished),
        ("users on the hub", _names_of(stack)),
        ("builds", _sessions_of(stack)),
        ("keys of work", stack.keys_of_work),
        ("keys that should have expired", stack.remembered),
    ):
        if some := await _until_none(condition):
            left.append(f"left after {EMPTY_SECONDS:g} s: {what}: {some[:5]}")
    await asyncio.sleep(REST_SECONDS)
    return left + [f"ended by itself: {part}" for part in stack.ended()]


def _names_of(stack: SoakStack) -> Callable[[], Awaitable[list[str]]]:
    async def names() -> list[str]:
        return list(await stack.hub_users())

    return names


def _sessions_of(stack: SoakStack) -> Callable[[], Awaitable[list[str]]]:
    async def sessions() -> list[str]:
        return stack.sessions()

    return sessions


async def _until_none(condition: Callable[[], Awaitable[list[str]]]) -> list[str]:
    deadline = time.monotonic() + EMPTY_SECONDS
    while (some := await condition()) and time.monotonic() < deadline:
        await asyncio.sleep(0.5)
    return some


def _launch_rows(launcher: Launcher, problems: list[str]) -> list[Row]:
    rows = [Row("Launches: how they ended", "")]
    for kind, (state, code) in EXPECTED.items():
        outcomes = Counter({how: times for (of, how), times in launcher.outcomes.items() if of == kind})
        text = ", ".join(f"{times} {how}" for how, times in outcomes.most_common()) or "none"
        longest = max(launcher.seconds[kind], default=0.0)
        rows.append(Row(kind, text, goal=f"all {code or state}", note=f"the longest took {longest:.0f} s"))
    rows.append(Row("lost, twice, incomplete or left over", str(len(problems)), goal="0", failed=len(problems)))
    return rows + [Row("", "!", note=problem) for problem in problems[:20]]


def _fault_rows(faults: FaultMaker) -> list[Row]:
    mean_seconds = faults.mean_seconds
    is_late = mean_seconds > EVERY_SECONDS * (1 + TOLERANCE)
    rows = [Row("Faults", "")]
    rows.append(
        Row(
            "one each",
            f"{mean_seconds:.1f} s",
            goal=f"{EVERY_SECONDS:g} s, with the pauses between rounds",
            failed=int(is_late),
        )
    )
    for kind in sorted({kind for kind, _ in faults.count}):
        parts = {part: times for (of, part), times in sorted(faults.count.items()) if of == kind}
        note = ", ".join(f"{part} {times}" for part, times in parts.items())
        rows.append(Row(kind, str(sum(parts.values())), note=note))
    return rows
