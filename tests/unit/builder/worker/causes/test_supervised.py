"""A build that failed has its cause in its record and in the last event of its log, whoever supervised it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from services.builder.executors.base import ExecutionVanishedError, Finished
from services.builder.queue.attempts import build_topic
from services.builder.queue.log_excerpt import LogExcerpt
from services.builder.worker.causes import cause as cause_module
from services.builder.worker.supervision import Supervision
from services.common.models import Build, BuildState, Event, Phase
from services.common.records.owned_record import OwnedRecord
from services.common.records.stored_record import StoredRecord
from services.common.streams.log_store import stream_entries
from tests.support.in_process_builder import Builder, open_builder
from tests.support.scripted_executor import ScriptedExecutor, log_batch, supervise
from tests.support.valkey import Valkey

INSTALL = "The installation of packages ended with exit status 1"
NO_SOLUTION = "error: No solution found when resolving dependencies"
NOT_FOUND = "  cause: Because nothing-here was not found in the package registry and you require nothing-here, we can"
QUOTE = "nothing-here was not found in the package registry"
FAILED = Finished(ok=False, error_code="build_failed", error_message=INSTALL)


@pytest.fixture
async def builder(valkey: Valkey, redis: Redis, tmp_path: Path) -> AsyncIterator[Builder]:
    async with open_builder(valkey, tmp_path) as builder:
        yield builder


async def test_the_record_and_the_last_event_say_why_first_and_lead_to_the_line(builder: Builder) -> None:
    scripted = ScriptedExecutor(
        [log_batch("uv pip install -r requirements.txt", NO_SOLUTION, NOT_FOUND, INSTALL), FAILED]
    )
    build, messages = await supervise(builder, scripted)
    assert build.error
    assert build.error.cause
    assert (build.error.cause.text, build.error.cause.rule) == (QUOTE, "uv:not-found")
    assert build.error.detail == f"{QUOTE}. {INSTALL}"
    assert messages[-1] == ("failed", f"{QUOTE}. {INSTALL}\n")

    [line] = await builder.builds.log(build.build_id or "", LogExcerpt(after=build.error.cause.after, lines=1))
    assert line.message == f"{NOT_FOUND}\n"
    last_entry = (await stream_entries(builder.context.redis, builder.context.keys, build_topic(build.build_id or "")))[
        -1
    ]
    assert last_entry.events[0]["error"]["cause"] == build.error.cause.model_dump()


async def test_a_worker_that_took_the_build_over_quotes_what_the_one_before_relayed(builder: Builder) -> None:
    for worker in ("w1", "w2"):
        await builder.offer_slots(worker, 1)
    build = await builder.request_build("repo")
    await builder.admit()
    record, _ = await adopt(builder, build, "w1", 1)
    lines = [Event(phase=Phase.BUILDING, message=f"{text}\n") for text in (NO_SOLUTION, NOT_FOUND)]
    await record.write(*lines, body=build.updated(state=BuildState.RUNNING), release=True)

    record, stored = await adopt(builder, build, "w2")
    scripted = ScriptedExecutor([log_batch(INSTALL), FAILED])
    supervision = Supervision(
        context=builder.context, settings=builder.settings, executor=scripted, images=scripted, record=record,
        build=stored.model(Build), stored=stored, cancelled=asyncio.Event(),
    )  # fmt: skip
    assert await supervision.run()
    assert supervision.build.error
    assert supervision.build.error.detail == f"{QUOTE}. {INSTALL}"


async def adopt(
    builder: Builder, build: Build, worker: str, epoch: int | None = None
) -> tuple[OwnedRecord, StoredRecord]:
    topic = build_topic(build.build_id or "")
    adoption = await builder.context.records.adopt("builder", worker, topic=topic, epoch=epoch)
    assert adoption
    return adoption


async def test_what_a_run_before_said_is_not_why_this_one_failed(builder: Builder) -> None:
    scripted = ScriptedExecutor(
        [log_batch(NO_SOLUTION, NOT_FOUND), ExecutionVanishedError("its pod was deleted")], [log_batch(INSTALL), FAILED]
    )
    build, messages = await supervise(builder, scripted)
    assert build.error
    assert build.error.cause is None
    assert messages[-1] == ("failed", f"{INSTALL}\n")


async def test_a_log_that_can_not_be_read_keeps_no_build_from_ending(
    builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unreadable(*_arguments: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(cause_module, "read_tail", unreadable)
    build, messages = await supervise(builder, ScriptedExecutor([log_batch(NOT_FOUND), FAILED]))
    assert build.state is BuildState.FAILED
    assert messages[-1] == ("failed", f"{INSTALL}\n")
