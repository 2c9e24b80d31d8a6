"""What ends a stack from elsewhere, and what ends with it: `stop`, `clean`, and the next `up`."""

import json
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from deploy.local.settings import Settings, StartupError
from deploy.local.sockets import socket_folder
from deploy.local.stop import clean, stop
from tests.support.small_stack import (
    STAYS,
    STAYS_STUBBORNLY,
    SmallStack,
    start_detached,
    start_process,
)

PARTS = {"redis": STAYS, "gateway": STAYS}


@pytest.mark.slow
def test_stop_clean_and_the_next_up_end_background_jobs_too(data_dir: Path, port: int) -> None:
    settings = Settings(data_dir=data_dir)
    run = data_dir / "servers" / "0123"
    with SmallStack(data_dir, port, PARTS).until_ready() as stack:
        job = start_detached(run)
        stack.process.kill()
        stack.process.wait()
    with SmallStack(data_dir, port, PARTS).until_ready() as following:
        assert not job.is_running
    assert any("left behind: background job of servers/0123, gateway" in line for line in following.lines)
    job = start_detached(run)
    assert "(1 processes)" in stop(settings)
    assert not job.is_running
    job = start_detached(run)
    clean(settings, force=True)
    assert not job.is_running


@pytest.mark.slow
def test_after_kill_9_the_next_up_ends_the_leftovers_and_keeps_the_data(data_dir: Path, port: int) -> None:
    with SmallStack(data_dir, port, PARTS | {"worker": STAYS_STUBBORNLY}).until_ready() as stack:
        stack.until_printed("here", times=3)
        process, build = start_process(STAYS, name="build 1234")
        build.write(data_dir / "run" / "processes" / "build.json")
        stranger, _ = start_process(STAYS)
        record = {"pid": stranger.pid, "start_time": "1", "what": "server of long ago"}
        (data_dir / "run" / "processes" / "server.json").write_text(json.dumps(record))
        (data_dir / "images").mkdir()
        installation = (data_dir / "installation.json").read_text()
        parts = [stack.part(name) for name in ("redis", "gateway", "worker")]
        stack.process.kill()
        stack.process.wait()
        assert all(part.is_running for part in parts)

        with SmallStack(data_dir, port, PARTS, stop_timeout_seconds=0.5).until_ready() as following:
            assert not any(part.is_running for part in (*parts, build))
    assert any("left behind: build 1234, gateway, redis, worker" in line for line in following.lines)
    assert stranger.poll() is None
    assert (data_dir / "images").is_dir()
    assert (data_dir / "installation.json").read_text() == installation
    stranger.kill()
    stranger.communicate()
    process.communicate()


@pytest.mark.slow
def test_stop_ends_it_from_elsewhere(data_dir: Path, port: int) -> None:
    settings = Settings(data_dir=data_dir)
    assert stop(settings) == "Bindery was not running."
    with SmallStack(data_dir, port, PARTS).until_ready() as stack:
        parts = [stack.part(name) for name in PARTS]
        assert stop(settings) == "Bindery has stopped."
        assert stack.until_ended() == 0
    assert not any(part.is_running for part in parts)
    assert stop(settings) == "Bindery was not running."


@pytest.mark.slow
def test_stop_kills_an_up_that_does_not_end(data_dir: Path, port: int) -> None:
    with SmallStack(data_dir, port, PARTS).until_ready() as stack:
        parts = [stack.part(name) for name in PARTS]
        stack.process.send_signal(signal.SIGSTOP)
        settings = Settings(data_dir=data_dir, stop_timeout_seconds=0.01)
        assert stop(settings) == "Bindery has stopped."
        assert stack.until_ended() in {-signal.SIGKILL, 0}
    assert not any(part.is_running for part in parts)


def test_stop_ends_what_a_killed_up_left_behind(data_dir: Path, port: int) -> None:
    with SmallStack(data_dir, port, PARTS).until_ready() as stack:
        parts = [stack.part(name) for name in PARTS]
        stack.process.kill()
        stack.process.wait()
        assert "2 processes" in stop(Settings(data_dir=data_dir))
    assert not any(part.is_running for part in parts)


@pytest.mark.slow
def test_the_folder_of_the_sockets_goes_with_the_stack_or_with_who_ends_its_leftovers(
    data_dir: Path, port: int
) -> None:
    folder = socket_folder(data_dir, os.environ)
    settings = Settings(data_dir=data_dir)
    with SmallStack(data_dir, port, PARTS).until_ready():
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()
    ends: list[Callable[[], str]] = [partial(stop, settings), partial(clean, settings, force=True)]
    for end in ends:
        with SmallStack(data_dir, port, PARTS).until_ready() as stack:
            stack.process.kill()
            stack.process.wait()
        assert folder.exists()
        end()
        assert not folder.exists()


@pytest.mark.slow
def test_clean_refuses_while_it_runs_and_with_nobody_to_ask(
    data_dir: Path, port: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = Settings(data_dir=data_dir)
    with SmallStack(data_dir, port, PARTS).until_ready(), pytest.raises(StartupError, match="make stop"):
        clean(settings, force=True)
    with (tmp_path / "nobody").open("w+") as nobody:
        monkeypatch.setattr("sys.stdin", nobody)
        with pytest.raises(StartupError, match="FORCE=1"):
            clean(settings, force=False)
    assert (data_dir / "installation.json").exists()
    assert clean(settings, force=True) == f"Deleted {data_dir}."
    assert not data_dir.exists()
