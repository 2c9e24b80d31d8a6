"""Sessions, and the server that they are forked from: each may be killed, and the other goes on."""

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO

import psutil
import pytest

from services.builder.executors.base import Attempt, Finished
from services.builder.executors.process.executor import ProcessExecutor
from services.builder.executors.process.session.layout import BuildFolder, Layout
from services.builder.executors.process.session.spec import BuildSpec
from services.builder.executors.process.sessions import Sessions
from tests.contract.conftest import Serve
from tests.support.forge import Fault, Forge
from tests.support.paths import CHECKOUT
from tests.support.polling import eventually, until
from tests.support.sample_builds import QUICK, attempt_of, collect

SETTINGS = QUICK.model_copy(update={"allowed_networks": ("127.0.0.0/8",)})
WITHOUT_FORKS_ALONE = """
import socket, sys
from services.builder.executors.process.session.fork_server import serve
serve(socket.socket(fileno=int(sys.argv[1])), is_fork_enough=False)
"""


@pytest.fixture
async def executor(data: Path) -> AsyncIterator[ProcessExecutor]:
    executor = ProcessExecutor(data, SETTINGS)
    await executor.prepare()
    yield executor
    await executor.aclose()


def fork_server() -> psutil.Process:
    """Return the one that this process has started."""
    (server,) = [
        child
        for child in psutil.Process().children()
        if child.status() != psutil.STATUS_ZOMBIE and any("fork_server" in part for part in child.cmdline())
    ]
    return server


async def assert_is_built(executor: ProcessExecutor, attempt: Attempt) -> None:
    messages, _, outcome = await collect(executor.follow(attempt, ""))
    assert outcome == Finished(ok=True), messages


async def test_a_session_outlives_the_server_that_it_was_forked_from(
    executor: ProcessExecutor, tmp_path: Path, serve: Serve
) -> None:
    gate = tmp_path / "gate"
    running = attempt_of(*serve({"postBuild": f"until [ -e {gate} ]; do sleep 0.05; done\n"}))
    await executor.ensure(running)
    server = fork_server()
    server.kill()
    following = attempt_of(*serve({"a": "b"}))
    await executor.ensure(following)
    assert fork_server() != server
    await assert_is_built(executor, following)
    gate.touch()
    await assert_is_built(executor, running)


async def test_an_order_that_its_server_has_not_begun_is_given_to_another_one(
    executor: ProcessExecutor, data: Path, serve: Serve
) -> None:
    attempt = attempt_of(*serve({"a": "b"}))
    server = fork_server()
    server.suspend()
    ensuring = asyncio.create_task(executor.ensure(attempt))
    await until(lambda: (Layout(data).build(attempt.build_id).path / "session.log").exists())
    server.kill()
    await ensuring
    await assert_is_built(executor, attempt)


async def test_the_server_ends_with_its_executor_and_the_session_does_not(
    executor: ProcessExecutor, tmp_path: Path, data: Path, serve: Serve
) -> None:
    gate = tmp_path / "gate"
    attempt = attempt_of(*serve({"postBuild": f"until [ -e {gate} ]; do sleep 0.05; done\n"}))
    await executor.ensure(attempt)
    server = fork_server()
    await executor.aclose()
    assert not server.is_running()
    gate.touch()
    await assert_is_built(ProcessExecutor(data, SETTINGS), attempt)


async def test_what_follows_a_build_is_a_process_that_nobody_waits_for(
    executor: ProcessExecutor, data: Path, serve: Serve
) -> None:
    layout = Layout(data)
    layout.images.mkdir()
    attempt = attempt_of(*serve({"a": "b"}))
    image = layout.image(attempt.build_id)

    def records() -> list[str]:
        texts: list[str] = []
        for path in layout.process_records.glob("*.json"):
            with contextlib.suppress(FileNotFoundError):  # it has just ended
                texts.append(path.read_text())
        return [json.loads(text)["what"] for text in texts]

    with (layout.images / ".upkeep.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        await executor.ensure(attempt)
        await assert_is_built(executor, attempt)
        assert not layout.build(attempt.build_id).is_alive
        await until(lambda: records() == [f"upkeep after build {attempt.build_id}"])
        await until(lambda: [child.name() for child in fork_server().children()] == [f"build {attempt.build_id}"[:15]])
        await executor.remove(attempt.build_id)
        assert image.manifest()
    await until(lambda: records() == [])
    await until(lambda: fork_server().children() == [])
    assert {"size", "image.json"} < {path.name for path in image.path.iterdir()}


async def test_a_session_that_records_itself_while_its_build_is_stopped_ends_too(
    executor: ProcessExecutor, data: Path, forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha = forge.create_repo("org", "repo", {"a": "b"})
    forge.git_fault = Fault.holding()  # so that it has no process of a step, which a stop would find
    attempt = attempt_of(f"{forge.url}/org/repo", sha)
    await executor.ensure(attempt)
    session = Layout(data).build(attempt.build_id).session()
    assert session
    reads = iter([None])
    monkeypatch.setattr(BuildFolder, "session", lambda _: next(reads, session))
    await executor.stop(attempt)
    assert not session.is_alive


def test_the_server_of_a_killed_worker_ends_too() -> None:
    code = "import signal, sys; from pathlib import Path; "
    code += "from services.builder.executors.process.sessions import Sessions; Sessions({}).prepare(); "
    code += "print('prepared', flush=True); signal.pause()"
    with subprocess.Popen([sys.executable, "-c", code], cwd=CHECKOUT, stdout=subprocess.PIPE) as worker:
        assert worker.stdout
        assert worker.stdout.readline() == b"prepared\n"
        (server,) = psutil.Process(worker.pid).children()
        worker.kill()
    eventually(lambda: not server.is_running(), "the fork server has ended")


async def test_a_failure_before_a_session_has_begun_is_told_and_lies_in_its_folder(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.builder.executors.process.sessions._START_SECONDS", 120.0)  # however slow the machine
    folder = Layout(data).build(attempt_of("http://127.0.0.1:1/r", "0" * 40).build_id)
    folder.path.mkdir(parents=True)
    folder.spec.write_text("{}")
    sessions = Sessions({})
    lock = folder.take_lock()
    assert lock
    with lock, pytest.raises(OSError, match=r"no session could be started: see .*/session\.log"):
        sessions.start(folder, lock.fileno())
    sessions.close()
    assert "ValidationError" in (folder.path / "session.log").read_text()


def test_a_process_that_may_not_live_by_a_fork_alone_starts_python_anew(data: Path, serve: Serve) -> None:
    folder, lock = _prepared(data, *serve({"a": "b"}))
    orders, theirs = socket.socketpair()
    readable, writable = os.pipe()
    command = [sys.executable, "-c", WITHOUT_FORKS_ALONE, str(theirs.fileno())]
    with (
        subprocess.Popen(command, cwd=CHECKOUT, pass_fds=[theirs.fileno()]) as server,
        orders,
        lock,
        (folder.path / "session.log").open("ab") as output,
        os.fdopen(readable, "rb") as started,
    ):
        theirs.close()
        socket.send_fds(orders, [os.fsencode(folder.path)], [lock.fileno(), output.fileno(), writable])
        os.close(writable)
        assert started.read() == b"1"
        session = folder.session()
        assert session
        assert str(folder.path) in psutil.Process(session.pid).cmdline()
        server.send_signal(signal.SIGTERM)


def _prepared(data: Path, repo_url: str, ref: str) -> tuple[BuildFolder, IO[str]]:
    attempt = attempt_of(repo_url, ref)
    folder = Layout(data).build(attempt.build_id)
    folder.path.mkdir(parents=True)
    spec = BuildSpec(
        build_id=folder.build_id,
        image=attempt.image,
        repo_url=repo_url,
        ref=ref,
        data_dir=str(data),
        settings=SETTINGS,
    )
    folder.spec.write_text(spec.model_dump_json())
    lock = folder.take_lock()
    assert lock
    return folder, lock
