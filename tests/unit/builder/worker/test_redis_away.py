"""Redis is away for less or more than a build's patience: no build is dropped, stopped or built twice."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from services.builder.executors.base import Attempt, Batch, Finished
from services.builder.images import ExistingImage
from services.builder.queue.attempts import build_topic
from services.common.models import BuildState
from services.common.redis.client import REDIS_UNAVAILABLE
from services.common.streams.log_store import stream_entries
from tests.support.in_process_worker import WorkerProcess, admit_builds, field, workers_of
from tests.support.polling import until
from tests.support.scripted_executor import ScriptedExecutor, log_batch
from tests.support.valkey import Valkey

PATIENCE_SECONDS = 1.0
BUILDS = 4
LINE_SECONDS = 0.1


class PunctualExecutor(ScriptedExecutor):
    """An executor whose builds print a line each 0.1 s, whether or not they are followed, and are silent at the end.

    A position is the number of a line.
    """

    def __init__(self, lines: int, outcome: Finished | None = None, silent_seconds: float = 0.0) -> None:
        super().__init__()
        self.lines = lines
        self.silent_seconds = silent_seconds
        self.outcome = outcome or Finished(ok=True)
        self.began_at: dict[str, float] = {}
        self.lookups = [*[None] * BUILDS, ExistingImage("sha256:1")]

    async def ensure(self, attempt: Attempt) -> None:
        self.began_at.setdefault(attempt.name, asyncio.get_running_loop().time())

    async def follow(self, attempt: Attempt, position: str) -> AsyncIterator[Batch | Finished]:
        self.follow_calls.append((attempt.run, position))
        for number in range(int(position or 0) + 1, self.lines + 1):
            await self._sleep_until(attempt, number * LINE_SECONDS)
            yield log_batch(f"line {number}", position=str(number))
        await self._sleep_until(attempt, self.lines * LINE_SECONDS + self.silent_seconds)
        yield self.outcome

    async def _sleep_until(self, attempt: Attempt, age_seconds: float) -> None:
        due_at = self.began_at[attempt.name] + age_seconds
        await asyncio.sleep(due_at - asyncio.get_running_loop().time())


async def printed(running: WorkerProcess, build_id: str) -> Sequence[str]:
    """Return the lines that a build's followers have received."""
    context = running.builder.context
    entries = await stream_entries(context.redis, context.keys, build_topic(build_id))
    events = [event for entry in entries for event in entry.events]
    return [str(event["message"]) for event in events if event["phase"] == "building"]


async def states(running: WorkerProcess, build_ids: Sequence[str]) -> set[BuildState]:
    """Sweep once, as another process would, and return the builds' states."""
    with contextlib.suppress(*REDIS_UNAVAILABLE):
        await running.builder.sweep()
    return {(await running.builder.builds.read(build_id)).state for build_id in build_ids}


async def see_all_built(running: WorkerProcess, build_ids: Sequence[str]) -> None:
    """Wait until all builds have their images; each line was printed once, and no execution was stopped."""

    async def are_built() -> bool:
        current = await states(running, build_ids)
        assert BuildState.FAILED not in current
        return current == {BuildState.BUILT}

    await until(are_built)
    assert isinstance(running.scripted, PunctualExecutor)
    lines = [f"line {number}\n" for number in range(1, running.scripted.lines + 1)]
    assert [await printed(running, build_id) for build_id in build_ids] == [lines] * len(build_ids)
    assert running.scripted.stops == 0
    assert len(running.scripted.began_at) == len(build_ids)


@pytest.mark.slow
@pytest.mark.parametrize("patiences", [0.5, 1.2, 1.9, 2.5])
async def test_builds_go_on_after_redis_was_away(own_valkey: Valkey, tmp_path: Path, patiences: float) -> None:
    executor = PunctualExecutor(lines=10 + int(patiences * PATIENCE_SECONDS / LINE_SECONDS))
    start = workers_of(own_valkey, tmp_path)
    async with start(executor=executor, build_slots=BUILDS, redis_patience_seconds=PATIENCE_SECONDS) as running:
        build_ids = await admit_builds(running.builder, BUILDS)
        running.begin()
        for build_id in build_ids:
            await until(lambda build_id=build_id: printed(running, build_id))

        await own_valkey.be_away(patiences * PATIENCE_SECONDS)
        await see_all_built(running, build_ids)


@pytest.mark.slow
async def test_a_failed_poll_cancels_no_build(own_valkey: Valkey, tmp_path: Path) -> None:
    executor = PunctualExecutor(lines=15)
    start = workers_of(own_valkey, tmp_path)
    async with start(executor=executor, build_slots=BUILDS) as running:
        build_ids = await admit_builds(running.builder, BUILDS)
        running.begin()
        for build_id in build_ids:
            await until(lambda build_id=build_id: printed(running, build_id))

        await own_valkey.be_away(0.3)
        await see_all_built(running, build_ids)
        assert len(executor.follow_calls) == BUILDS
        assert {await field(running.builder, build_id, "epoch") for build_id in build_ids} == {"1"}
        assert running.is_looking()


@pytest.mark.slow
async def test_a_wait_for_redis_is_not_a_builds_silence(own_valkey: Valkey, tmp_path: Path) -> None:
    start = workers_of(own_valkey, tmp_path)
    async with start(executor=PunctualExecutor(lines=20), build_stall_seconds=0.8) as running:
        (build_id,) = await admit_builds(running.builder, 1)
        running.scripted.lookups[1:-1] = []
        running.begin()
        await until(lambda: printed(running, build_id))

        await own_valkey.be_away(1.5)
        await see_all_built(running, [build_id])


@pytest.mark.slow
async def test_an_authors_failure_that_could_not_be_recorded_is_not_stopped_nor_built_again(
    own_valkey: Valkey, tmp_path: Path
) -> None:
    executor = PunctualExecutor(1, Finished(False, "build_failed", "It failed."), silent_seconds=PATIENCE_SECONDS / 2)
    start = workers_of(own_valkey, tmp_path)
    async with start(executor=executor, redis_patience_seconds=PATIENCE_SECONDS) as running:
        (build_id,) = await admit_builds(running.builder, 1)
        running.begin()
        await until(lambda: printed(running, build_id))

        own_valkey.kill()
        await asyncio.sleep(2 * PATIENCE_SECONDS)
        assert executor.stops == 0  # in a cluster, it would be gone then, and the next run would begin
        await asyncio.to_thread(own_valkey.start)

        async def has_failed() -> bool:
            return await states(running, [build_id]) == {BuildState.FAILED}

        await until(has_failed)
        build = await running.builder.builds.read(build_id)
        assert build.error
        assert (build.error.code, build.error.detail) == ("build_failed", "It failed.")
        assert {run for run, _ in executor.follow_calls} == {1}
