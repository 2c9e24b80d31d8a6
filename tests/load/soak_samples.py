"""What the processes of a soak hold when nothing is under way, round by round, and whether it grows."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from services.common.redis.families import FAMILIES
from tests.load.processes import accepted_connections, file_handles, rss_bytes, tcp_connections, unix_connections
from tests.load.soak_stack import POOL_CONNECTIONS, SoakStack
from tests.load.table import Row

TOLERANCE = 0.05
INDIVISIBLE = {
    "RSS": 1.0,  # MiB; an allocator's step, and a twentieth of Redis is less
    "tasks": 1.0,  # a resolver has a dozen: one that is in mid-poll is more than a twentieth
    "file handles": 1.0,  # and so is one handle of twenty
    "keys": 2.0,  # `builds:relisted` and a sweep lease may just have run out, or not
    "data": 0.1,  # MiB; the tables of an all but empty Redis grow by doubling
}
"""Differences that are no growth, if larger than a twentieth."""
UNPOOLED_CONNECTIONS = 10
"""Unix sockets of a process outside that pool: 4 for the lease, 4 for subscriptions, the event loop's own pair."""
KEPT_CONNECTIONS = 12
"""Connections that others keep for their next call of a process."""
LAUNCHES_AT_ONCE = 30
"""Launches that are under way at most. After a hub or a forge has stood still, all of them ask it at once, and the
connections are kept for a minute. In the shortest soak a launcher has twice as many starts: a leak by each is seen."""
CEILINGS = {
    "connections": float(POOL_CONNECTIONS + UNPOOLED_CONNECTIONS),
    "accepted connections": float(KEPT_CONNECTIONS),
    "TCP connections": float(LAUNCHES_AT_ONCE),
}
"""What may be reached: a pool keeps the connections of its busiest moment, which may come late.

That is when Redis has stood still, and all ask at once. The soak's pools are small, so that a leak exceeds them.
"""
LOOKS = 3
LOOK_PAUSE_SECONDS = 4.0
"""Between two looks of one sample: what is about to end has ended by the last one, and what leaked is there in each."""
REDIS = "redis"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One look at all parts at rest: numbers by part and measure."""

    numbers: dict[tuple[str, str], float] = field(default_factory=dict)
    keys: Counter[str] = field(default_factory=Counter)
    """All keys, by the pattern of their family."""

    @classmethod
    async def of(cls, stack: SoakStack) -> "Sample":
        """Take a sample: the least of some looks for each measure, and the keys of the last."""
        looks = [await cls._look(stack)]
        while len(looks) < LOOKS:
            await asyncio.sleep(LOOK_PAUSE_SECONDS)
            looks.append(await cls._look(stack))
        numbers = {one: min(look.numbers[one] for look in looks) for one in looks[-1].numbers}
        return cls(numbers=numbers, keys=looks[-1].keys)

    @classmethod
    async def _look(cls, stack: SoakStack) -> "Sample":
        numbers: dict[tuple[str, str], float] = {}
        for name in stack.ours():
            pid = stack.processes[name].pid
            numbers[name, "RSS"] = rss_bytes(pid) / 2**20
            if name == REDIS:
                continue
            connections = unix_connections(pid)
            accepted = accepted_connections(pid)
            tcp = tcp_connections(pid)
            numbers[name, "connections"] = connections
            numbers[name, "accepted connections"] = accepted
            numbers[name, "TCP connections"] = tcp
            numbers[name, "file handles"] = file_handles(pid) - connections - accepted - tcp
            numbers[name, "tasks"] = _value(await stack.metrics(name), "bindery_tasks")

        async with stack.redis() as client:
            info = await client.info()
            names = [key.decode() async for key in client.scan_iter("*")]
        numbers[REDIS, "file handles"] = file_handles(stack.processes[REDIS].pid) - info["connected_clients"]
        numbers[REDIS, "data"] = info["used_memory_dataset"] / 2**20
        numbers[REDIS, "keys"] = len(names)
        return cls(numbers=numbers, keys=Counter(_pattern_of(name.removeprefix(stack.prefix)) for name in names))


def _pattern_of(key: str) -> str:
    return next((family.pattern for family in FAMILIES if fnmatchcase(key, family.pattern)), key)


def _value(metrics: str, name: str) -> float:
    return next(float(line.split()[1]) for line in metrics.splitlines() if line.startswith(f"{name} "))


def is_flat(measure: str, first: float, last: float) -> bool:
    """Return whether a measure has not grown from its first mean to its last."""
    allowed = max(TOLERANCE * first, INDIVISIBLE.get(measure, 0.0))
    return last <= max(first + allowed, CEILINGS.get(measure, 0.0))


def rows(samples: Sequence[Sample]) -> list[Row]:
    """Return a row for each part and measure: the means of the first and the last third, and whether that is flat.

    The first sample is the warm-up's, and not counted.
    """
    counted = samples[1:]
    third = max(1, len(counted) // 3)
    if len(counted) < 2:
        return [Row("flatness", "too short to say", failed=1)]

    # The first of each pair has been replaced several times, and its successor has worked for half a round and more.
    all_rows = [Row("At rest: first third -> last third of the rounds, of each part or its successors", "")]
    for part, measure in counted[0].numbers:
        first, last = (
            sum(sample.numbers[part, measure] for sample in some) / third
            for some in (counted[:third], counted[-third:])
        )
        has_grown = not is_flat(measure, first, last)
        unit = " MiB" if measure in {"RSS", "data"} else ""
        series = " ".join(f"{sample.numbers[part, measure]:.4g}" for sample in samples)
        ceiling = CEILINGS.get(measure)
        all_rows.append(
            Row(
                f"{part}: {measure}",
                f"{first:.1f} -> {last:.1f}{unit}  {'GROWS' if has_grown else 'flat'}",
                goal=f"+{TOLERANCE:.0%}, or {ceiling:.0f} at most" if ceiling else f"+{TOLERANCE:.0%} at most",
                note=f"{(last - first) / first:+.1%}; {series}" if first else series,
                numbers={"first": first, "last": last},
                failed=int(has_grown),
            )
        )
    added = samples[-1].keys - counted[0].keys
    all_rows.append(Row("redis: families with more keys", ", ".join(sorted(added)) or "none"))
    return all_rows
