"""Supervision: what a build's owner does when its execution vanishes, stands still, or what it needs is away."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from redis.asyncio import Redis

from services.builder.attempts import topic_of
from services.builder.executors.base import (
    Attempt,
    Batch,
    Execution,
    ExecutionVanishedError,
    ExecutorUnavailableError,
    Finished,
    Line,
)
from services.builder.images import FoundImage
from services.builder.supervise import Supervision
from services.common.errors import BinderyError
from services.common.logstore import stream_entries
from services.common.models import Build, BuildState
from tests.support.builder import Builder, open_builder
from tests.support.valkey import Valkey

Step = Batch | Finished | Exception | None
"""What an execution does next; None: nothing, for ever."""


class Scripted:
    """An executor whose executions do what a test says, run by run, and the place where their images are."""

    def __init__(self, *runs: Iterable[Step]) -> None:
        self._runs = [list(steps) for steps in runs]
        self.asked: list[tuple[int, str]] = []
        self.stopped = 0
        self.looked: list[FoundImage | BinderyError | None] = [None]

    async def ensure(self, attempt: Attempt) -> None:
        """Every run is there already."""

    async def follow(self, attempt: Attempt, position: str) -> AsyncIterator[Batch | Finished]:
        self.asked.append((attempt.run, position))
        steps = self._runs[attempt.run - 1]
        while steps:
            match steps.pop(0):
                case None:
                    await asyncio.Event().wait()
                case Exception() as error:
                    raise error
                case item:
                    yield item

    async def stop(self, attempt: Attempt) -> None:
        self.stopped += 1

    async def list(self, image_key: str = "") -> Sequence[Execution]:
        return []

    async def remove(self, build_id: str) -> None:
        """Nothing is kept."""

    async def aclose(self) -> None:
        """Nothing is open."""

    async def trouble(self) -> str | None:
        return None

    async def find(self, image: str) -> FoundImage | None:
        found = self.looked.pop(0) if len(self.looked) > 1 else self.looked[0]
        if isinstance(found, BinderyError):
            raise found
        return found


def said(*messages: str, position: str = "") -> Batch:
    """A batch of log lines."""
    return Batch(tuple(Line("building", f"{one}\n") for one in messages), position or messages[-1])


async def supervise(builder: Builder, scripted: Scripted) -> tuple[Build, list[tuple[str, str]]]:
    """See one build through; how it ended, and what its followers were told."""
    await builder.offer_slots("w1", 1)
    asked = await builder.ask("repo")
    await builder.admitted()
    topic = topic_of(asked.build_id or "")
    found = await builder.stage.records.adopt("builder", "w1", topic=topic, epoch=1, recreate=True)
    assert found
    claimed, stored = found
    watch = Supervision(
        builder.stage, builder.settings, scripted, scripted, claimed, stored.model(Build), stored, asyncio.Event()
    )
    async with asyncio.timeout(20):
        await watch.run()
    entries = await stream_entries(builder.stage.redis, builder.stage.keys, topic)
    told = [(str(event["phase"]), str(event.get("message", ""))) for entry in entries for event in entry.events]
    await builder.admission.done(asked.build_id or "")
    return watch.build, told[1:]


def code_of(build: Build) -> str | None:
    """Why a build failed."""
    return build.error.code if build.error else None


Opened = Callable[..., AbstractAsyncContextManager[Builder]]


@pytest.fixture
def opened(valkey: Valkey, redis: Redis, tmp_path: Path) -> Opened:
    return lambda **settings: open_builder(valkey, tmp_path, **settings)


async def test_vanished_execution_is_run_again_and_the_log_says_so(opened: Opened) -> None:
    scripted = Scripted(
        [said("one"), said("two"), ExecutionVanishedError("its pod was deleted")], [said("one"), Finished(ok=True)]
    )
    scripted.looked = [None, None, FoundImage("sha256:1")]
    async with opened() as builder:
        build, told = await supervise(builder, scripted)
    assert (build.state, build.digest) == (BuildState.BUILT, "sha256:1")
    assert scripted.asked == [(1, ""), (2, "")]
    assert [phase for phase, _ in told] == ["building", "building", "gap", "building", "built"]
    assert "its pod was deleted" in told[2][1]


async def test_a_position_without_lines_is_stored_and_no_follower_hears_of_it(opened: Opened) -> None:
    scripted = Scripted([Batch((), "0/0/uid"), ExecutorUnavailableError("away"), said("one"), Finished(ok=True)])
    scripted.looked = [None, FoundImage("sha256:1")]
    async with opened() as builder:
        _, told = await supervise(builder, scripted)
    assert scripted.asked == [(1, ""), (1, "0/0/uid")]
    assert [phase for phase, _ in told] == ["waiting", "building", "built"]


async def test_execution_that_vanishes_each_time_is_lost(opened: Opened) -> None:
    scripted = Scripted([said("one"), ExecutionVanishedError("a")], [said("one"), ExecutionVanishedError("b")])
    async with opened() as builder:
        build, told = await supervise(builder, scripted)
    assert build.state is BuildState.FAILED
    assert code_of(build) == "build_lost"
    assert [phase for phase, _ in told].count("gap") == 1
    assert scripted.stopped == 1


async def test_vanished_execution_whose_image_is_there_was_built(opened: Opened) -> None:
    scripted = Scripted([said("one"), ExecutionVanishedError("a")])
    scripted.looked = [None, FoundImage("sha256:2")]
    async with opened() as builder:
        build, _ = await supervise(builder, scripted)
    assert (build.state, build.digest) == (BuildState.BUILT, "sha256:2")


async def test_engine_that_is_away_is_waited_for_from_the_last_position(opened: Opened) -> None:
    away = ExecutorUnavailableError("connection refused")
    scripted = Scripted([said("one"), away, away, away, said("two"), Finished(ok=True)])
    scripted.looked = [None, FoundImage()]
    async with opened() as builder:
        build, told = await supervise(builder, scripted)
    assert build.state is BuildState.BUILT
    assert [position for _, position in scripted.asked] == ["", "one", "one", "one"]
    assert [phase for phase, _ in told] == ["building", "waiting", "building", "built"]
    assert "connection refused" in told[1][1]


async def test_engine_that_stays_away_ends_the_build_within_the_bound(opened: Opened) -> None:
    scripted = Scripted([said("one"), *[ExecutorUnavailableError("refused")] * 50])
    async with opened(outage_patience_seconds=0.5) as builder:
        build, _ = await supervise(builder, scripted)
    assert code_of(build) == "executor_unavailable"


async def test_registry_that_is_away_is_never_taken_for_no_image(opened: Opened) -> None:
    away = BinderyError("registry_unavailable", "The registry does not answer.")
    scripted = Scripted([said("one"), Finished(ok=True)])
    scripted.looked = [away, away, None, away, away, FoundImage("sha256:3")]
    async with opened() as builder:
        build, told = await supervise(builder, scripted)
    assert (build.state, build.digest) == (BuildState.BUILT, "sha256:3")
    assert [phase for phase, _ in told] == ["waiting", "building", "waiting", "built"]


async def test_execution_that_could_not_push_is_run_again_once_the_registry_answers(opened: Opened) -> None:
    away = BinderyError("registry_unavailable", "The registry does not answer.")
    scripted = Scripted(
        [said("one"), Finished(False, "registry_unavailable", "connection refused.")],
        [said("one"), Finished(ok=True)],
    )
    scripted.looked = [None, away, None, FoundImage()]
    async with opened() as builder:
        build, told = await supervise(builder, scripted)
    assert build.state is BuildState.BUILT
    assert [phase for phase, _ in told] == ["building", "waiting", "gap", "building", "built"]


async def test_build_that_says_nothing_for_too_long_has_stalled(opened: Opened) -> None:
    scripted = Scripted([said("one"), None])
    async with opened(build_stall_seconds=0.3) as builder:
        build, _ = await supervise(builder, scripted)
    assert code_of(build) == "build_stalled"
    assert scripted.stopped == 1


async def test_build_that_goes_on_and_on_is_stopped_at_its_hard_maximum(opened: Opened) -> None:
    scripted = Scripted([said("one"), None])
    async with opened(build_timeout_seconds=0.3) as builder:
        build, _ = await supervise(builder, scripted)
    assert code_of(build) == "build_timeout"


async def test_failure_of_the_repository_is_not_run_again(opened: Opened) -> None:
    scripted = Scripted([said("one"), Finished(False, "build_failed", "pip could not find it.")], [Finished(ok=True)])
    async with opened() as builder:
        build, _ = await supervise(builder, scripted)
    assert build.error
    assert (build.error.code, build.error.detail) == ("build_failed", "pip could not find it.")
    assert [run for run, _ in scripted.asked] == [1]


async def test_engine_that_ended_well_but_left_no_image_is_our_fault(opened: Opened) -> None:
    scripted = Scripted([Finished(ok=True)])
    async with opened() as builder:
        build, _ = await supervise(builder, scripted)
    assert code_of(build) == "internal"
