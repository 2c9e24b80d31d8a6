"""What the processes of a soak hold when nothing is under way, round by round, and whether it grows."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from services.common.redis.families import FAMILIES
from tests.load.processes import pss_bytes, rss_bytes
from tests.load.soak_stack import PAIRS, SoakStack
from tests.load.table import Row

TOLERANCE = 0.05
SMALL = {"tasks": 3.0, "file handles": 8.0, "keys without expiry": 2.0, "memory": 1.0, "RSS": 1.0, "PSS": 1.0}
"""Differences that are no growth however few there are (memory is in MiB).

A pool keeps the connections of its busiest moment, which may come late: after Redis stood still, all ask at once.
"""
CONTROL = [f"{kind}-2" for kind in PAIRS]
"""Processes that live for the whole soak: they are stopped now and then, but never killed or ended."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One look at all parts at rest: numbers by part and measure."""

    numbers: dict[tuple[str, str], float] = field(default_factory=dict)
    keys: Counter[str] = field(default_factory=Counter)
    """Keys without expiry, by the pattern of their family."""

    @classmethod
    async def of(cls, stack: SoakStack) -> "Sample":
        """Take a sample."""
        numbers: dict[tuple[str, str], float] = {}
        for name in CONTROL:
            pid = stack.processes[name].pid
            numbers[name, "RSS"] = rss_bytes(pid) / 2**20
            numbers[name, "PSS"] = pss_bytes(pid) / 2**20
            numbers[name, "file handles"] = len(list(Path(f"/proc/{pid}/fd").iterdir()))
            numbers[name, "tasks"] = _value(await stack.metrics(name), "bindery_tasks")

        async with stack.redis() as client:
            numbers["redis", "memory"] = (await client.info("memory"))["used_memory"] / 2**20
            names = [key async for key in client.scan_iter("*")]
            lasting = [name.decode() for name in names if await client.ttl(name) == -1]
        keys = Counter(_pattern_of(name.removeprefix(stack.prefix)) for name in lasting)
        numbers["redis", "keys without expiry"] = keys.total()
        pid = stack.processes["redis"].pid
        numbers["redis", "file handles"] = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        return cls(numbers=numbers, keys=keys)


def _pattern_of(key: str) -> str:
    return next((family.pattern for family in FAMILIES if fnmatchcase(key, family.pattern)), key)


def _value(metrics: str, name: str) -> float:
    return next(float(line.split()[1]) for line in metrics.splitlines() if line.startswith(f"{name} "))


def rows(samples: Sequence[Sample]) -> list[Row]:
    """Return a row for each part and measure: the means of the first and the last third, and whether that is flat.

    The first sample is the warm-up's, and not counted.
    """
    counted = samples[1:]
    third = max(1, len(counted) // 3)
    if len(counted) < 2:
        return [Row("flatness", "too short to say", failed=1)]

    all_rows = [Row("At rest: first third -> last third of the rounds; never-killed processes only", "")]
    for part, measure in counted[0].numbers:
        first, last = (
            sum(sample.numbers[part, measure] for sample in some) / third
            for some in (counted[:third], counted[-third:])
        )
        growth = last - first
        is_flat = growth <= max(TOLERANCE * first, SMALL[measure])
        unit = " MiB" if measure in {"RSS", "PSS", "memory"} else ""
        text = f"{first:.1f} -> {last:.1f}{unit}  {'flat' if is_flat else 'GROWS'}"
        series = " ".join(f"{sample.numbers[part, measure]:.0f}" for sample in samples)
        all_rows.append(
            Row(
                f"{part}: {measure}",
                text,
                goal=f"+{TOLERANCE:.0%} at most",
                note=f"{growth / first:+.1%}; {series}" if first else series,
                numbers={"first": first, "last": last},
                failed=int(not is_flat),
            )
        )
    added = samples[-1].keys - counted[0].keys
    all_rows.append(Row("redis: families with more keys without expiry", ", ".join(sorted(added)) or "none"))
    return all_rows
