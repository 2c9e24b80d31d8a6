"""A log far longer than what is kept of it: from the executor through Redis to a later reader."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from services.builder.executors.base import Batch, Finished, Line
from services.builder.images import ExistingImage
from services.builder.queue.attempts import build_topic
from services.builder.queue.log_excerpt import LogExcerpt, LogLine, lines_of
from services.common.models import BuildState
from services.common.streams.log_store import stream_entries
from tests.support.in_process_builder import open_builder
from tests.support.scripted_executor import ScriptedExecutor, Step, supervise
from tests.support.valkey import Valkey

LINES = 1_000_000
BATCH = 2_000
KEPT_BYTES = 4 * 2**20
HOSTILE = "\x1b]0;title\x07\x00\u2028\ufffd<script>alert(1)</script>\n"
LONG = "x" * 2**20 + "\n"


def batch(first: int) -> Batch:
    """`BATCH` lines of a log, as an executor yields them."""
    return Batch(tuple(Line("building", f"line {number}\n") for number in range(first, first + BATCH)), str(first))


@pytest.mark.slow
async def test_of_a_million_lines_head_and_tail_are_kept_and_what_is_missing_is_counted(
    redis: Redis, valkey: Valkey, tmp_path: Path
) -> None:
    used: list[int] = []

    async def measured() -> None:
        used.append(int((await redis.info("memory"))["used_memory"]))

    def steps() -> Iterator[Step]:
        yield Batch((Line("building", HOSTILE), Line("building", LONG)), "hostile")
        for first in range(0, LINES, BATCH):
            yield batch(first)
            if first % (20 * BATCH) == 0:
                yield measured
        yield Batch((Line("building", LONG), Line("building", HOSTILE)), "end")
        yield Finished(ok=True)

    scripted = ScriptedExecutor(steps())
    scripted.lookups = [None, ExistingImage()]
    await measured()
    async with open_builder(valkey, tmp_path, stream_max_bytes=KEPT_BYTES, log_total_max_bytes=2**30) as builder:
        build, _ = await supervise(builder, scripted, seconds=250)
        assert build.state is BuildState.BUILT
        build_id = build.build_id or ""
        live = list(lines_of(await stream_entries(redis, builder.context.keys, build_topic(build_id))))

        await builder.cleanup.store_log(build_id)
        await redis.delete(builder.context.keys.events(build_topic(build_id)))
        stored = await builder.builds.log(build_id, LogExcerpt())
        resumed = await builder.builds.log(build_id, LogExcerpt(after=stored[1000].position))

    assert max(used) - used[0] < 4 * KEPT_BYTES
    assert stored == [line for line in live if line.message]
    assert resumed == stored[1001:]
    assert (stored[1].message, stored[2].message) == (HOSTILE, LONG)
    assert (stored[-3].message, stored[-2].message, stored[-1].phase) == (LONG, HOSTILE, "built")
    (gap,) = [at for at, line in enumerate(stored) if line.phase == "gap"]
    head = numbers(stored[3:gap])
    tail = numbers(stored[gap + 1 : -3])
    assert head == list(range(len(head)))
    assert tail == list(range(LINES - len(tail), LINES))
    assert stored[gap].message == f"{LINES - len(head) - len(tail)} lines are missing here.\n"
    kept_bytes = sum(len(json.dumps({"v": 1, "phase": line.phase, "message": line.message})) for line in stored)
    assert KEPT_BYTES / 2 < kept_bytes < 1.1 * KEPT_BYTES


def numbers(lines: list[LogLine]) -> list[int]:
    return [int(line.message.removeprefix("line ")) for line in lines]
