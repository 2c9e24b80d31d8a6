"""Supervision: what a build's owner does when its execution vanishes or stalls, or a service is unavailable."""

import asyncio
import io
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from itertools import chain
from pathlib import Path

import pytest
from redis.asyncio import Redis

from services.builder.executors.base import (
    Attempt,
    Batch,
    ExecutionVanishedError,
    ExecutorUnavailableError,
    Finished,
)
from services.builder.executors.kubernetes.settings import KubernetesSettings
from services.builder.images import ExistingImage
from services.builder.settings import BuilderSettings
from services.builder.worker import outage_retries
from services.common.models import Build, BuildState
from services.common.models.errors import BinderyError
from services.gateway.settings import GatewaySettings
from tests.support.in_process_builder import Builder, open_builder
from tests.support.logs import line_of
from tests.support.scripted_executor import ScriptedExecutor, Step, log_batch, supervise
from tests.support.settings import settings_for
from tests.support.valkey import Valkey

REDIS_UNAVAILABLE = ExecutorUnavailableError("connection refused")
NO_REGISTRY = BinderyError("registry_unavailable", "The registry does not answer.")


def code_of(build: Build) -> str | None:
    """Why a build failed."""
    return build.error.code if build.error else None


OpenBuilder = Callable[..., AbstractAsyncContextManager[Builder]]


@pytest.fixture
def builder_context(valkey: Valkey, redis: Redis, tmp_path: Path) -> OpenBuilder:
    return lambda **settings: open_builder(valkey, tmp_path, **settings)


async def test_vanished_execution_is_run_again_and_the_log_says_so(builder_context: OpenBuilder) -> None:
    scripted = ScriptedExecutor(
        [log_batch("one"), log_batch("two"), ExecutionVanishedError("its pod was deleted")],
        [log_batch("one"), Finished(ok=True)],
    )
    scripted.lookups = [None, None, ExistingImage("sha256:1")]
    async with builder_context() as builder:
        build, messages = await supervise(builder, scripted)
    assert (build.state, build.digest) == (BuildState.BUILT, "sha256:1")
    assert scripted.follow_calls == [(1, ""), (2, "")]
    assert [phase for phase, _ in messages] == ["building", "building", "gap", "building", "built"]
    assert "its pod was deleted" in messages[2][1]


async def test_a_position_without_lines_is_stored_and_no_follower_hears_of_it(builder_context: OpenBuilder) -> None:
    scripted = ScriptedExecutor(
        [Batch((), "0/0/uid"), ExecutorUnavailableError("away"), log_batch("one"), Finished(ok=True)]
    )
    scripted.lookups = [None, ExistingImage("sha256:1")]
    async with builder_context() as builder:
        _, messages = await supervise(builder, scripted)
    assert scripted.follow_calls == [(1, ""), (1, "0/0/uid")]
    assert [phase for phase, _ in messages] == ["waiting", "building", "built"]


async def test_execution_that_vanishes_each_time_is_lost(builder_context: OpenBuilder) -> None:
    scripted = ScriptedExecutor(
        [log_batch("one"), ExecutionVanishedError("a")], [log_batch("one"), ExecutionVanishedError("b")]
    )
    async with builder_context() as builder:
        build, messages = await supervise(builder, scripted)
    assert build.state is BuildState.FAILED
    assert code_of(build) == "build_lost"
    assert [phase for phase, _ in messages].count("gap") == 1
    assert scripted.stops == 1


async def test_vanished_execution_whose_image_is_there_was_built(builder_context: OpenBuilder) -> None:
    scripted = ScriptedExecutor([log_batch("one"), ExecutionVanishedError("a")])
    scripted.lookups = [None, ExistingImage("sha256:2")]
    async with builder_context() as builder:
        build, _ = await supervise(builder, scripted)
    assert (build.state, build.digest) == (BuildState.BUILT, "sha256:2")


@pytest.mark.slow
async def test_engine_that_is_away_is_waited_for_from_the_last_position(builder_context: OpenBuilder) -> None:
    scripted = ScriptedExecutor(
        [log_batch("one"), REDIS_UNAVAILABLE, REDIS_UNAVAILABLE, REDIS_UNAVAILABLE, log_batch("two"), Finished(ok=True)]
    )
    scripted.lookups = [None, ExistingImage()]
    async with builder_context() as builder:
        build, messages = await supervise(builder, scripted)
    assert build.state is BuildState.BUILT
    assert [position for _, position in scripted.follow_calls] == ["", "one", "one", "one"]
    assert [phase for phase, _ in messages] == ["building", "waiting", "building", "built"]
    assert messages[1][1] == "The build backend does not answer. Waiting for it ...\n"


@pytest.mark.slow
async def test_who_follows_reads_no_address_of_an_engine_that_is_away_and_the_log_has_it(
    builder_context: OpenBuilder, logs: io.StringIO
) -> None:
    away = ExecutorUnavailableError("Cannot connect to host 10.3.0.1:6443")
    scripted = ScriptedExecutor([log_batch("one"), *[away] * 50])
    async with builder_context(outage_patience_seconds=1) as builder:
        build, messages = await supervise(builder, scripted)
    visible_text = " ".join(line for _, line in messages) + (build.error.model_dump_json() if build.error else "")
    assert "The build backend does not answer." in visible_text
    assert "10.3.0.1" not in visible_text
    assert "10.3.0.1:6443" in line_of(logs, "waiting")["why"]
    assert "10.3.0.1:6443" in line_of(logs, "gave_up_waiting")["why"]


@pytest.mark.slow
async def test_engine_that_stays_away_ends_the_build_within_the_bound(builder_context: OpenBuilder) -> None:
    scripted = ScriptedExecutor([log_batch("one"), *[REDIS_UNAVAILABLE] * 50])
    async with builder_context(outage_patience_seconds=2) as builder:
        build, _ = await supervise(builder, scripted)
    assert code_of(build) == "executor_unavailable"
    # It is asked again after 0.2, 0.4, 0.8 s: within 2 s three times at most, however slow this machine is.
    assert 2 <= len(scripted.follow_calls) <= 4


@pytest.mark.slow
async def test_patience_begins_with_the_outage_and_not_with_the_build(builder_context: OpenBuilder) -> None:
    scripted = ScriptedExecutor([log_batch("one"), 1.0, REDIS_UNAVAILABLE, Finished(ok=True)])
    scripted.lookups = [None, ExistingImage()]
    async with builder_context(outage_patience_seconds=0.5) as builder:
        build, messages = await supervise(builder, scripted)
    assert build.state is BuildState.BUILT
    assert [phase for phase, _ in messages] == ["building", "waiting", "built"]


@pytest.mark.slow
async def test_each_outage_is_told(builder_context: OpenBuilder) -> None:
    scripted = ScriptedExecutor(
        [log_batch("one"), REDIS_UNAVAILABLE, REDIS_UNAVAILABLE, log_batch("two"), REDIS_UNAVAILABLE, Finished(ok=True)]
    )
    scripted.lookups = [None, ExistingImage()]
    async with builder_context() as builder:
        _, messages = await supervise(builder, scripted)
    assert [phase for phase, _ in messages] == ["building", "waiting", "building", "waiting", "built"]


@pytest.mark.slow
async def test_a_build_that_was_silent_for_long_before_an_outage_was_not_away(
    builder_context: OpenBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outage_retries, "FAILS_WITHIN_SECONDS", 0.5)
    scripted = ScriptedExecutor(
        [log_batch("one"), REDIS_UNAVAILABLE, 1.0, REDIS_UNAVAILABLE, 1.0, REDIS_UNAVAILABLE, Finished(ok=True)]
    )
    scripted.lookups = [None, ExistingImage()]
    async with builder_context(outage_patience_seconds=0.5) as builder:
        build, messages = await supervise(builder, scripted)
    assert build.state is BuildState.BUILT
    assert [phase for phase, _ in messages] == ["building", *["waiting"] * 3, "built"]


@pytest.mark.slow
async def test_registry_that_is_away_is_never_taken_for_no_image(builder_context: OpenBuilder) -> None:
    scripted = ScriptedExecutor([log_batch("one"), Finished(ok=True)])
    scripted.lookups = [NO_REGISTRY, NO_REGISTRY, None, NO_REGISTRY, NO_REGISTRY, ExistingImage("sha256:3")]
    async with builder_context() as builder:
        build, messages = await supervise(builder, scripted)
    assert (build.state, build.digest) == (BuildState.BUILT, "sha256:3")
    assert [phase for phase, _ in messages] == ["waiting", "building", "waiting", "built"]


async def test_a_cancelled_build_ends_cancelled_whatever_its_run_says_as_it_is_stopped(
    builder_context: OpenBuilder,
) -> None:
    cancelled = asyncio.Event()

    async def fails_as_it_is_cancelled() -> None:
        cancelled.set()
        try:
            await asyncio.Event().wait()
        finally:
            raise BinderyError("build_failed")

    async with builder_context() as builder:
        build, _ = await supervise(builder, ScriptedExecutor([fails_as_it_is_cancelled]), cancelled=cancelled)
    assert build.state is BuildState.CANCELLED


async def test_a_build_is_cancelled_while_it_waits_for_the_registry_before_it_starts(
    builder_context: OpenBuilder,
) -> None:
    scripted = ScriptedExecutor()
    cancelled = asyncio.Event()
    scripted.lookups = [NO_REGISTRY]
    cancelled.set()
    async with builder_context() as builder:
        build, _ = await supervise(builder, scripted, cancelled=cancelled)
    assert build.state is BuildState.CANCELLED
    assert scripted.follow_calls == []


async def test_a_build_that_waits_for_the_registry_before_it_starts_has_its_hard_maximum(
    builder_context: OpenBuilder,
) -> None:
    scripted = ScriptedExecutor()
    scripted.lookups = [NO_REGISTRY]
    async with builder_context(build_timeout_seconds=0.5) as builder:
        build, _ = await supervise(builder, scripted)
    assert code_of(build) == "build_timeout"


async def test_an_image_that_came_while_the_build_was_queued_is_not_built_again(builder_context: OpenBuilder) -> None:
    scripted = ScriptedExecutor()
    scripted.lookups = [ExistingImage("sha256:4")]
    async with builder_context() as builder:
        build, messages = await supervise(builder, scripted)
    assert (build.state, build.digest) == (BuildState.BUILT, "sha256:4")
    assert messages == [("built", "The image already exists.\n")]


async def test_execution_that_could_not_push_is_run_again_once_the_registry_answers(
    builder_context: OpenBuilder,
) -> None:
    scripted = ScriptedExecutor(
        [log_batch("one"), Finished(False, "registry_unavailable", "connection refused.")],
        [log_batch("one"), Finished(ok=True)],
    )
    scripted.lookups = [None, NO_REGISTRY, None, ExistingImage()]
    async with builder_context() as builder:
        build, messages = await supervise(builder, scripted)
    assert build.state is BuildState.BUILT
    assert [phase for phase, _ in messages] == ["building", "waiting", "gap", "building", "built"]


async def test_a_build_may_be_silent_for_as_long_as_it_may_run_where_no_limit_is_set(
    builder_context: OpenBuilder,
) -> None:
    scripted = ScriptedExecutor([log_batch("one"), 0.3, Finished(ok=True)])
    scripted.lookups = [None, ExistingImage()]
    async with builder_context() as builder:
        assert builder.settings.build_stall_seconds == 0
        build, _ = await supervise(builder, scripted)
    assert build.state is BuildState.BUILT


def test_a_build_has_the_four_hours_that_it_has_at_binderhub_and_a_launch_has_room_for_them() -> None:
    builds = BuilderSettings()
    launches = GatewaySettings()
    assert (builds.build_timeout_seconds, KubernetesSettings().deadline_seconds) == (14_400, 14_400)
    assert launches.launch_timeout_seconds >= builds.build_queue_max_seconds + builds.build_timeout_seconds + 1800


def test_an_invalid_limit_is_refused_with_its_name() -> None:
    for name, value in (("build_timeout_seconds", 0), ("build_stall_seconds", -1)):
        with pytest.raises(ValueError, match=name):
            settings_for(BuilderSettings, {name: value})


async def test_build_that_says_nothing_for_too_long_has_stalled(builder_context: OpenBuilder) -> None:
    scripted = ScriptedExecutor([log_batch("one"), None])
    async with builder_context(build_stall_seconds=0.3) as builder:
        build, _ = await supervise(builder, scripted)
    assert code_of(build) == "build_stalled"
    assert scripted.stops == 1


@pytest.mark.slow
async def test_a_build_that_can_say_nothing_yet_stands_not_still_and_writes_nothing(
    builder_context: OpenBuilder,
) -> None:
    def waits(seconds: float) -> Iterator[Step]:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            yield Batch((), "")
            yield 0.0

    scripted = ScriptedExecutor(chain(waits(1.0), [log_batch("one"), Finished(ok=True)]))
    scripted.lookups = [None, ExistingImage()]
    async with builder_context(build_stall_seconds=0.3) as builder:
        build, messages = await supervise(builder, scripted)
        stored = await builder.attempts.read(build.build_id or "")
    assert build.state is BuildState.BUILT
    assert [phase for phase, _ in messages] == ["building", "built"]
    assert stored
    assert int(stored.record.get("seq")) < 1100  # from 1001 on: each write has a number


async def test_build_that_goes_on_and_on_is_stopped_at_its_hard_maximum(builder_context: OpenBuilder) -> None:
    scripted = ScriptedExecutor([log_batch("one"), None])
    async with builder_context(build_timeout_seconds=0.3) as builder:
        build, _ = await supervise(builder, scripted)
    assert code_of(build) == "build_timeout"


async def test_failure_of_the_repository_is_not_run_again(builder_context: OpenBuilder) -> None:
    scripted = ScriptedExecutor(
        [log_batch("one"), Finished(False, "build_failed", "pip could not find it.")], [Finished(ok=True)]
    )
    async with builder_context() as builder:
        build, _ = await supervise(builder, scripted)
    assert build.error
    assert (build.error.code, build.error.detail) == ("build_failed", "pip could not find it.")
    assert [run for run, _ in scripted.follow_calls] == [1]


async def test_engine_that_ended_well_but_left_no_image_is_our_fault(builder_context: OpenBuilder) -> None:
    scripted = ScriptedExecutor([Finished(ok=True)])
    async with builder_context() as builder:
        build, _ = await supervise(builder, scripted)
    assert code_of(build) == "internal"


async def test_an_authors_failure_is_recorded_before_its_execution_is_stopped(builder_context: OpenBuilder) -> None:
    stopped_in: list[BuildState] = []

    class Stopped(ScriptedExecutor):
        async def stop(self, attempt: Attempt) -> None:
            stored = await builder.attempts.read(attempt.build_id)
            assert stored
            stopped_in.append(stored.build.state)

    scripted = Stopped([log_batch("one"), Finished(False, "build_failed", "It failed.")])
    async with builder_context() as builder:
        await supervise(builder, scripted)
    assert stopped_in == [BuildState.FAILED]  # whoever takes a build over would find it gone, and run it again
