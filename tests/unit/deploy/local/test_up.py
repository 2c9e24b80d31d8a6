"""`up` and `stop` as a user meets them: real processes, signals and leftovers."""

import asyncio
import contextlib
import errno
import gc
import json
import os
import re
import signal
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from deploy.local import up
from deploy.local.console import Console
from deploy.local.ports import is_free
from deploy.local.processes import end_processes
from deploy.local.settings import Settings, StartupError
from deploy.local.sockets import socket_folder
from deploy.local.start_token import running_address
from deploy.local.stop import clean, stop
from deploy.local.supervisor import GivenUp, Supervisor
from tests.support.polling import eventually
from tests.support.ports import ADDRESSES, steal
from tests.support.small_stack import (
    STAYS,
    SmallStack,
    start_detached,
    start_process,
)

PARTS = {"redis": STAYS, "gateway": STAYS}
Start = Callable[..., SmallStack]


def ready_line(stack: SmallStack) -> str:
    """The line that says that all parts are healthy; parts may have printed more since."""
    return next(line for line in stack.lines if line.startswith("Bindery is ready: "))


@pytest.mark.slow
def test_ready_is_said_once_and_last(data_dir: Path, port: int) -> None:
    with SmallStack(data_dir, port, PARTS).until_ready() as stack:
        pass
    ready = [line for line in stack.lines if "ready" in line]
    assert len(ready) == 1
    assert re.fullmatch(rf"Bindery is ready: http://127\.0\.0\.1:{port}/\?token=[\w-]{{32}}", ready[0])
    assert "strangers" in stack.lines[stack.lines.index(ready[0]) - 2]
    assert not any("\x1b" in line for line in stack.lines)


@pytest.mark.slow
def test_a_git_that_a_repository_may_harm_is_said_and_starts(
    data_dir: Path, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git = tmp_path / "git"
    git.write_text("#!/bin/sh\necho git version 2.38.1\n")
    git.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with SmallStack(data_dir, port, PARTS).until_ready() as stack:
        pass
    assert any("git 2.38.1 has memory errors" in line and "update it to 2.38.3" in line for line in stack.lines)


@pytest.mark.slow
def test_the_token_in_the_address_is_the_owners_alone_and_of_this_run(data_dir: Path, port: int) -> None:
    token_file = data_dir / "run" / "start-token"
    tokens = set()
    for _ in range(2):
        with SmallStack(data_dir, port, PARTS).until_ready() as stack:
            stack.until_printed("here", times=len(PARTS))  # each has a log, then
            tokens.add(token_file.read_text())
            assert ready_line(stack).endswith(f"/?token={token_file.read_text()}")
            assert stat.S_IMODE(token_file.stat().st_mode) == 0o600
            assert stat.S_IMODE(token_file.parent.stat().st_mode) == 0o700
            assert running_address(data_dir / "run") == f"http://127.0.0.1:{port}/?token={token_file.read_text()}"
        assert not token_file.exists()
    assert len(tokens) == 2
    for log in (data_dir / "logs").iterdir():
        assert not any(token in log.read_text() for token in tokens)
    with pytest.raises(StartupError, match=f"No Bindery runs with the data folder {data_dir}: `make up` starts it"):
        running_address(data_dir / "run")


@pytest.mark.slow
def test_a_token_may_be_named(data_dir: Path, port: int) -> None:
    with SmallStack(data_dir, port, PARTS, start_token="one-of-ones-own.").until_ready() as stack:
        assert ready_line(stack) == f"Bindery is ready: http://127.0.0.1:{port}/?token=one-of-ones-own."
        assert (data_dir / "run" / "start-token").read_text() == "one-of-ones-own."


@pytest.mark.slow
def test_an_operator_who_switches_the_token_off_is_told_what_that_means(data_dir: Path, port: int) -> None:
    with SmallStack(data_dir, port, PARTS, start_token="").until_ready() as stack:
        assert ready_line(stack) == f"Bindery is ready: http://127.0.0.1:{port}"
        warning = "BINDERY_START_TOKEN is empty: it asks for no token, so every user and program"
        assert any(warning in line for line in stack.lines)
        assert not (data_dir / "run" / "start-token").exists()
        assert running_address(data_dir / "run") == f"http://127.0.0.1:{port}"


@pytest.mark.slow
def test_the_token_of_a_killed_run_is_forgotten(data_dir: Path, port: int) -> None:
    with SmallStack(data_dir, port, PARTS).until_ready() as stack:
        stack.process.kill()
        stack.process.wait()
    with pytest.raises(StartupError, match="No Bindery runs with"):
        running_address(data_dir / "run")
    stop(Settings(data_dir=data_dir))
    assert not (data_dir / "run" / "start-token").exists()


async def test_a_stack_that_is_given_up_ends_although_a_task_ignores_its_cancel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    may_end = asyncio.Event()
    asyncio.get_running_loop().call_later(5, may_end.set)
    lines: list[str] = []

    class Stubborn:
        async def keep_all(self) -> None:
            while not may_end.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await may_end.wait()

    async def give_up() -> None:
        raise GivenUp("not healthy")

    monkeypatch.setattr(up, "CANCEL_SECONDS", 0.1)
    console = cast("Console", SimpleNamespace(say=lines.append))
    with pytest.raises(GivenUp):
        await up._run_until_signal(cast("Supervisor", Stubborn()), console, give_up())
    assert lines == ["left a task that did not end when it was cancelled: keep all"]
    may_end.set()


async def test_the_error_of_a_task_that_fails_when_it_is_cancelled_is_told(unread_errors: list[str]) -> None:
    lines: list[str] = []

    class Failing:
        async def keep_all(self) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                raise OSError("no such process")

    async def give_up() -> None:
        raise GivenUp("not healthy")

    console = cast("Console", SimpleNamespace(say=lines.append))
    with pytest.raises(GivenUp):
        await up._run_until_signal(cast("Supervisor", Failing()), console, give_up())
    assert lines == ["a task failed when it was cancelled: keep all: OSError: no such process"]
    gc.collect()
    assert unread_errors == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.slow
def test_a_signal_ends_parts_builds_and_servers(data_dir: Path, port: int, number: signal.Signals) -> None:
    with SmallStack(data_dir, port, PARTS).until_ready() as stack:
        process, build = start_process(STAYS, name="build")
        build.write(data_dir / "run" / "processes" / "build.json")
        parts = [stack.part(name) for name in PARTS]
        stack.process.send_signal(number)
        assert stack.until_ended() == 0
    assert not any(part.is_running for part in (*parts, build))
    assert stack.lines[-1].endswith("everything has ended")
    process.communicate()


@pytest.mark.parametrize(("run", "name"), [("servers/0123", "servers/0123"), ("builds/0123-1/home", "builds/0123-1")])
@pytest.mark.slow
def test_ctrl_c_ends_a_background_job_that_a_build_or_server_left_behind(
    data_dir: Path, port: int, run: str, name: str
) -> None:
    with SmallStack(data_dir, port, PARTS).until_ready() as stack:
        job = start_detached(data_dir / run)
        stack.process.send_signal(signal.SIGINT)
        assert stack.until_ended() == 0
    assert not job.is_running
    assert any(f"background job of {name}" in line for line in stack.lines)


@pytest.mark.slow
def test_a_second_up_says_that_it_is_already_running(data_dir: Path, port: int) -> None:
    with SmallStack(data_dir, port, PARTS).until_ready() as first, SmallStack(data_dir, port, PARTS) as second:
        assert second.until_ended() == 1
    address = ready_line(first).removeprefix("Bindery is ready: ")
    assert "?token=" in address
    assert second.lines == [f"Bindery is already running: {address} (`make stop` ends it)."]


def test_a_port_in_use_is_named_with_the_setting(data_dir: Path, port: int) -> None:
    with socket.create_server(("127.0.0.1", port)), SmallStack(data_dir, port, PARTS) as stack:
        assert stack.until_ended() == 1
    assert len(stack.lines) == 1
    assert f"Port {port} " in stack.lines[0]
    assert "BINDERY_PORT" in stack.lines[0]


def test_the_second_gateways_port_is_checked_too(data_dir: Path, port: int) -> None:
    with socket.create_server(("127.0.0.1", port + 1)), SmallStack(data_dir, port, PARTS, gateways=2) as stack:
        assert stack.until_ended() == 1
    assert f"Port {port + 1} " in stack.lines[0]


@pytest.mark.slow
def test_a_killed_part_comes_back(data_dir: Path, port: int) -> None:
    with SmallStack(data_dir, port, PARTS, restart_delay_seconds=0.05).until_ready() as stack:
        before = stack.part("redis")
        before.signal(signal.SIGKILL)
        stack.until_printed("redis died (SIGKILL); it is started again in 0.05 s")
        eventually(lambda: "redis" in stack.parts() and stack.part("redis").is_running, "a new process on record")


@pytest.mark.slow
def test_a_part_that_keeps_dying_ends_everything_with_status_1(data_dir: Path, port: int) -> None:
    parts = PARTS | {"hub": "import sys; sys.exit('no such database')"}
    with SmallStack(data_dir, port, parts, restart_delay_seconds=0.01) as stack:
        assert stack.until_ended() == 1
    at = next(n for n, line in enumerate(stack.lines) if "giving up" in line)
    assert stack.lines[at + 1].endswith("  no such database")
    assert "no such database" in (data_dir / "logs" / "hub.log").read_text()
    assert not (data_dir / "run" / "up.json").exists()


def test_a_component_that_is_left_out_is_neither_started_nor_kept_from_its_port(data_dir: Path, port: int) -> None:
    environment = data_dir / "run" / "gateway.env"
    with SmallStack(data_dir, port, PARTS, without=["gateway"]).until_ready() as stack:
        assert list(stack.parts()) == ["redis"]
        assert is_free("127.0.0.1", port)
        assert stat.S_IMODE(environment.stat().st_mode) == 0o600
        at = stack.lines.index("To run gateway by hand, in another terminal:")
        assert str(environment) in stack.lines[at + 1]
        assert stop(Settings(data_dir=data_dir)) == "Bindery has stopped."
        assert stack.until_ended() == 0
    assert not environment.exists()


def test_the_environment_that_a_killed_up_has_written_is_removed(data_dir: Path, port: int) -> None:
    with SmallStack(data_dir, port, PARTS, without=["gateway"]).until_ready() as stack:
        stack.process.kill()
        stack.process.wait()
    stop(Settings(data_dir=data_dir))
    assert not (data_dir / "run" / "gateway.env").exists()


def test_a_component_that_there_is_not_can_not_be_left_out(data_dir: Path, port: int) -> None:
    with SmallStack(data_dir, port, PARTS, without=["gatway"]) as stack:
        assert stack.until_ended() == 1
    assert stack.lines[0].startswith("There is no component 'gatway' to leave out: use some of redis, proxy, hub,")
    assert not data_dir.exists()


def test_a_folder_for_the_sockets_that_others_may_enter_is_said_and_kept(data_dir: Path, port: int) -> None:
    folder = socket_folder(data_dir, os.environ)
    folder.mkdir(mode=0o755)
    try:
        with SmallStack(data_dir, port, PARTS) as stack:
            assert stack.until_ended() == 1
        (line,) = stack.lines
        assert line.startswith(
            f"{folder}, for the sockets of the components, is open to others (mode 755): remove it, or"
        )
        assert folder.exists()
    finally:
        folder.rmdir()


@pytest.mark.slow
def test_the_ports_of_a_killed_up_stay_with_its_parts(data_dir: Path, port: int) -> None:
    with SmallStack(data_dir, port, PARTS).until_ready() as stack:
        stack.process.kill()
        stack.process.wait()
        for family, address in ADDRESSES:
            assert steal(family, address, port, reuse=True) == errno.EADDRINUSE
    assert "(2 processes)" in stop(Settings(data_dir=data_dir))
    assert is_free("127.0.0.1", port)


@pytest.mark.slow
def test_a_record_of_another_boot_is_not_believed(data_dir: Path, port: int) -> None:
    with SmallStack(data_dir, port, PARTS).until_ready() as stack:
        parts = [stack.part(name) for name in PARTS]
        stack.process.kill()
        stack.process.wait()
        path = data_dir / "run" / "up.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"boot": "another"}))
        assert stop(Settings(data_dir=data_dir)) == "Bindery was not running."
        assert all(part.is_running for part in parts)
    end_processes(parts, 5)


def test_a_folder_with_other_things_in_it_is_not_taken(data_dir: Path, port: int) -> None:
    data_dir.mkdir()
    (data_dir / "thesis.tex").write_text("my only copy")
    with SmallStack(data_dir, port, PARTS) as stack:
        assert stack.until_ended() == 1
    assert "holds other things already (thesis.tex)" in stack.lines[0]
    with pytest.raises(StartupError, match="was not made by Bindery"):
        clean(Settings(data_dir=data_dir), force=True)
