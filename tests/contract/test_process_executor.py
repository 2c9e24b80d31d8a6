"""The process executor keeps the contract: builds outlive their worker, lose no line, and end when told."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from services.builder.executors.base import Attempt, Batch, ExecutionVanishedError, Finished
from services.builder.executors.process.executor import ProcessExecutor
from services.builder.executors.process.images import ProcessImages
from services.builder.executors.process.session.layout import Layout
from services.builder.executors.process.session.processes import identify
from services.common.models.errors import BinderyError
from tests.support.archive_datasets import api_urls, serve_zenodo, tree_of, zipped
from tests.support.forge import Forge
from tests.support.paths import CHECKOUT
from tests.support.polling import until
from tests.support.sample_builds import QUICK, attempt_of, collect, processes_mentioning

SETTINGS = QUICK.model_copy(update={"allowed_networks": ("127.0.0.0/8",)})
NUMBERED = "#!/bin/sh\nfor i in $(seq 40); do echo line-$i; done\n"


async def _until_line(following: AsyncIterator[Batch | Finished], text: str) -> tuple[list[str], str]:
    messages: list[str] = []
    async with asyncio.timeout(30):
        async for news in following:
            assert isinstance(news, Batch), news
            messages += [line.message for line in news.lines]
            if any(text in message for message in messages):
                return messages, news.position
    raise AssertionError(f"no line with {text}: {messages}")


async def test_a_build_is_followed_to_its_end_and_its_image_is_there(
    data: Path, serve: Callable[[dict[str, str]], tuple[str, str]]
) -> None:
    attempt = attempt_of(*serve({"requirements.txt": "six\n"}))
    executor = ProcessExecutor(data, SETTINGS)
    await executor.ensure(attempt)
    messages, position, outcome = await collect(executor.follow(attempt, ""))
    assert outcome == Finished(ok=True), messages
    assert any("six" in message for message in messages)
    assert int(position) == Layout(data).build(attempt.build_id).log.stat().st_size
    images = ProcessImages(data, has_overlays=True)
    assert await images.find(attempt.image)
    assert not await images.find("another")
    [execution] = await executor.list()
    assert (execution.build_id, execution.epoch, execution.is_alive) == (attempt.build_id, 1, False)
    await until(lambda: list((data / "run" / "processes").iterdir()) == [])
    await executor.remove(attempt.build_id)
    assert await executor.list() == []


async def test_a_dataset_of_an_archive_is_built(data: Path, forge: Forge) -> None:
    serve_zenodo(forge, "7", {"x.zip": zipped({"repo/requirements.txt": b"", "repo/data.txt": b"data"})})
    attempt = replace(attempt_of("https://zenodo.org/records/7", "7"), content_provider="Zenodo")
    executor = ProcessExecutor(data, SETTINGS.model_copy(update=api_urls(forge)))
    await executor.ensure(attempt)
    messages, _, outcome = await collect(executor.follow(attempt, ""))
    assert outcome == Finished(ok=True), messages
    assert "Fetching https://zenodo.org/records/7 at 7\n" in messages
    assert "Unpacking x.zip\n" in messages
    repo = Layout(data).image(attempt.build_id).repo
    assert tree_of(repo) == {"requirements.txt": b"", "data.txt": b"data"}


async def test_what_is_in_no_archive_is_refused_before_anything_is_started(data: Path) -> None:
    attempt = replace(attempt_of("https://hg.example.org/x", "7"), content_provider="Mercurial")
    executor = ProcessExecutor(data, SETTINGS)
    with pytest.raises(BinderyError, match="datasets of archives, not what Mercurial has") as raised:
        await executor.ensure(attempt)
    assert raised.value.code == "unsupported_repository"
    assert "The kubernetes and docker executors can" in raised.value.detail
    assert await executor.list() == []


async def test_a_build_outlives_its_killed_worker_and_no_line_is_lost_or_comes_twice(
    data: Path, tmp_path: Path, serve: Callable[[dict[str, str]], tuple[str, str]]
) -> None:
    gate = tmp_path / "gate"
    script = f"#!/bin/sh\nfor i in $(seq 40); do echo line-$i; done\nuntil [ -e {gate} ]; do sleep 0.05; done\n"
    script += "for i in $(seq 41 80); do echo line-$i; done\n"
    attempt = attempt_of(*serve({"postBuild": script}))
    worker = _worker_that_ensures(data, attempt)
    try:
        executor = ProcessExecutor(data, SETTINGS)
        first, position = await _until_line(executor.follow(attempt, ""), "line-40\n")
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    finally:
        worker.kill()
    assert worker.stdout is not None
    worker.stdout.close()
    second_worker = ProcessExecutor(data, SETTINGS)
    await second_worker.ensure(Attempt(**{**attempt.__dict__, "epoch": 2}))
    [execution] = await second_worker.list()
    assert (execution.epoch, execution.is_alive) == (2, True)
    gate.touch()
    rest, _, outcome = await collect(second_worker.follow(attempt, position))
    assert outcome == Finished(ok=True)
    numbered = [message.strip() for message in first + rest if message.startswith("line-")]
    assert numbered == [f"line-{number}" for number in range(1, 81)]


async def test_ensuring_again_and_again_starts_one_session(
    data: Path, serve: Callable[[dict[str, str]], tuple[str, str]]
) -> None:
    attempt = attempt_of(*serve({"postBuild": NUMBERED}))
    executors = [ProcessExecutor(data, SETTINGS) for _ in range(8)]
    await asyncio.gather(*(executor.ensure(attempt) for executor in executors))
    results = await asyncio.gather(*(collect(executor.follow(attempt, "")) for executor in executors))
    await executors[0].ensure(attempt)
    for messages, _, outcome in results:
        assert outcome == Finished(ok=True)
        assert [m for m in messages if m.startswith("line-")] == [f"line-{i}\n" for i in range(1, 41)]


async def test_stopping_leaves_no_process_and_no_half_built_image(
    data: Path, serve: Callable[[dict[str, str]], tuple[str, str]]
) -> None:
    marks = [f"sleep 91{os.getpid()}", f"sleep 92{os.getpid()}"]
    attempt = attempt_of(*serve({"postBuild": f"#!/bin/sh\nsetsid {marks[0]} &\necho started\n{marks[1]}\n"}))
    executor = ProcessExecutor(data, SETTINGS)
    await executor.ensure(attempt)
    await _until_line(executor.follow(attempt, ""), "started")
    session = Layout(data).build(attempt.build_id).session()
    assert session
    await executor.stop(attempt)
    assert not session.is_alive
    assert processes_mentioning(marks) == []
    assert not Layout(data).image(attempt.build_id).path.exists()
    assert list((data / "run" / "processes").iterdir()) == []
    _, _, outcome = await collect(executor.follow(attempt, ""))
    assert outcome == Finished(False, "cancelled", "The build was cancelled")
    await executor.ensure(attempt)
    assert not (await executor.list())[0].is_alive
    await executor.stop(attempt)


async def test_stopping_what_never_ran_is_fine(data: Path) -> None:
    await ProcessExecutor(data, SETTINGS).stop(attempt_of("http://127.0.0.1:1/r", "0" * 40))


async def test_a_run_sees_that_its_session_was_killed_and_the_next_run_builds_again(
    data: Path, tmp_path: Path, serve: Callable[[dict[str, str]], tuple[str, str]]
) -> None:
    gate = tmp_path / "gate"
    attempt = attempt_of(*serve({"postBuild": f"#!/bin/sh\necho started\nuntil [ -e {gate} ]; do sleep 0.05; done\n"}))
    executor = ProcessExecutor(data, SETTINGS)
    await executor.ensure(attempt)
    _, position = await _until_line(executor.follow(attempt, ""), "started")
    session = Layout(data).build(attempt.build_id).session()
    assert session is not None
    os.kill(session.pid, signal.SIGKILL)
    for another in (executor, ProcessExecutor(data, SETTINGS)):
        with pytest.raises(ExecutionVanishedError):
            await collect(another.follow(attempt, position))
        await another.ensure(attempt)  # as a worker does that goes on with it: its log is not told twice
    gate.touch()
    following = replace(attempt, run=2)
    await executor.ensure(following)
    messages, _, outcome = await collect(executor.follow(following, ""))
    assert outcome == Finished(ok=True)
    assert messages.count("started\n") == 1


async def test_a_build_that_was_never_started_has_vanished(data: Path) -> None:
    attempt = attempt_of("http://127.0.0.1:1/r", "0" * 40)
    with pytest.raises(ExecutionVanishedError):
        await collect(ProcessExecutor(data, SETTINGS).follow(attempt, ""))


async def test_an_address_that_is_not_allowed_is_refused_by_the_fetch(
    data: Path, serve: Callable[[dict[str, str]], tuple[str, str]]
) -> None:
    attempt = attempt_of(*serve({"a": "b"}))
    executor = ProcessExecutor(data, QUICK)
    await executor.ensure(attempt)
    _, _, outcome = await collect(executor.follow(attempt, ""))
    assert outcome is not None
    assert outcome.error_code == "address_not_allowed"


async def test_a_failed_build_says_why_by_its_last_line_and_its_end(
    data: Path, serve: Callable[[dict[str, str]], tuple[str, str]]
) -> None:
    attempt = attempt_of(*serve({"requirements.txt": "six==0.0.99\n"}))
    executor = ProcessExecutor(data, SETTINGS)
    await executor.ensure(attempt)
    messages, _, outcome = await collect(executor.follow(attempt, ""))
    assert outcome is not None
    assert (outcome.ok, outcome.error_code) == (False, "build_failed")
    assert messages[-1].strip() == outcome.error_message
    assert not await ProcessImages(data, has_overlays=True).find(attempt.image)


async def test_the_session_sees_none_of_the_services_settings(
    data: Path, serve: Callable[[dict[str, str]], tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BINDERY_SERVICE_TOKEN", "very secret")
    attempt = attempt_of(*serve({"postBuild": "#!/bin/sh\ntr '\\0' '\\n' < /proc/$PPID/environ; env\n"}))
    executor = ProcessExecutor(data, SETTINGS)
    await executor.ensure(attempt)
    messages, _, outcome = await collect(executor.follow(attempt, ""))
    assert outcome == Finished(ok=True)
    assert "BINDERY_" not in "".join(messages).replace("BINDERY_RUN=", "")


def _worker_that_ensures(data: Path, attempt: Attempt) -> subprocess.Popen[bytes]:
    code = (
        "import asyncio, json, sys, signal\n"
        "from pathlib import Path\n"
        "from services.builder.executors.base import Attempt\n"
        "from services.builder.executors.process.executor import ProcessExecutor\n"
        "from services.builder.executors.process.session.spec import SessionSettings\n"
        "data, settings, attempt = sys.argv[1:]\n"
        "executor = ProcessExecutor(Path(data), SessionSettings.model_validate_json(settings))\n"
        "asyncio.run(executor.ensure(Attempt(**json.loads(attempt))))\n"
        "print('ensured', flush=True)\n"
        "signal.pause()\n"
    )
    arguments = [str(data), SETTINGS.model_dump_json(), json.dumps(attempt.__dict__)]
    worker = subprocess.Popen([sys.executable, "-c", code, *arguments], cwd=CHECKOUT, stdout=subprocess.PIPE)
    assert worker.stdout is not None
    assert worker.stdout.readline() == b"ensured\n"
    assert identify(worker.pid)
    return worker
