"""Processes are known by pid and start time, and exactly those are ended."""

import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from deploy.local.process_table import process_start_time
from deploy.local.processes import (
    Process,
    end_processes,
    family,
    orphans,
    process_of,
    read_record,
    running_processes,
    this_process,
)
from tests.support.polling import eventually
from tests.support.small_stack import (
    STAYS,
    STAYS_STUBBORNLY,
    is_running,
    start_detached,
    start_process,
)

PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {code!r}], start_new_session={apart}, stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
import signal; signal.pause()
"""


def start_parent(code: str, *, apart: bool) -> tuple[subprocess.Popen[str], Process, int]:
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT.format(code=code, apart=apart)],
        start_new_session=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    child = int(process.stdout.readline())
    return process, process_of(process.pid, "parent"), child


def test_start_time_of_a_process_stays_the_same() -> None:
    assert process_start_time(os.getpid()) == process_start_time(os.getpid())
    assert this_process("test").is_running


def test_start_time_on_linux_is_the_22nd_field_of_stat() -> None:
    if Path("/proc/self/stat").exists():
        stat = Path(f"/proc/{os.getpid()}/stat").read_text()
        assert process_start_time(os.getpid()) == stat[stat.rindex(")") :].split()[20]


def test_start_time_stays_the_same_while_the_clock_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    if not psutil.LINUX:  # elsewhere it is not counted from the boot
        return
    started = process_start_time(os.getpid())
    boots = itertools.chain([1_000_000.0], itertools.repeat(1_003_600.0))
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: next(boots))
    assert process_start_time(os.getpid()) == started
    assert next(boots) == 1_003_600.0


def test_a_zombie_is_not_running() -> None:
    process, record = start_process(STAYS)
    os.kill(process.pid, signal.SIGKILL)
    eventually(lambda: not record.is_running, "a zombie that nobody has waited for")
    assert process.returncode is None
    process.communicate()


def test_a_recycled_pid_with_another_start_time_is_not_killed() -> None:
    process, record = start_process(STAYS)
    stranger = Process(record.pid, record.start_time + "0", "a build that ended long ago")
    assert end_processes([stranger], timeout_seconds=0.1) == []
    assert record.is_running
    assert end_processes([record], timeout_seconds=5) == [record]
    process.communicate()


def test_a_child_in_a_session_of_its_own_ends_with_its_parent() -> None:
    process, record, child = start_parent(STAYS, apart=True)
    assert {member.pid for member in family([record])} == {record.pid, child}
    end_processes([record], timeout_seconds=5)
    assert not is_running(child)
    process.communicate()


def test_a_process_that_ignores_sigterm_is_killed_after_the_limit() -> None:
    process, record, child = start_parent(STAYS_STUBBORNLY, apart=True)
    end_processes([record], timeout_seconds=0.2)
    assert not is_running(child)
    process.communicate()


def test_a_stopped_process_is_ended_too() -> None:
    process, record = start_process(STAYS)
    os.kill(process.pid, signal.SIGSTOP)
    end_processes([record], timeout_seconds=5)
    process.communicate()
    assert process.returncode == -signal.SIGTERM


def test_records_of_the_dead_and_files_of_others_are_left_out(tmp_path: Path) -> None:
    process, record = start_process(STAYS, name="build")
    record.write(tmp_path / "alive.json")
    Process(record.pid, "1", "server").write(tmp_path / "recycled.json")
    (tmp_path / "half.json").write_text('{"pid": 1')
    (tmp_path / "list.json").write_text("[]")
    assert running_processes(tmp_path) == [record]
    assert read_record(tmp_path / "alive.json") == record
    assert (tmp_path / "alive.json").stat().st_mode & 0o777 == 0o600
    end_processes([record], timeout_seconds=5)
    eventually(lambda: running_processes(tmp_path) == [], "the record of a dead process is not counted")
    process.communicate()


@pytest.mark.slow
def test_a_detached_process_of_a_run_is_ended_and_one_of_another_run_is_not(tmp_path: Path) -> None:
    servers = tmp_path / "data" / "servers"
    job = start_detached(servers / "0123" / "home")
    stubborn = start_detached(servers / "4567", STAYS_STUBBORNLY)
    other_processes = [start_detached(run) for run in (tmp_path, tmp_path / "data" / "servers-of-mine" / "x", servers)]
    assert {process.pid: process.what for process in orphans([], [servers])} == {
        job.pid: "background job of servers/0123",
        stubborn.pid: "background job of servers/4567",
    }
    assert {process.pid for process in end_processes([], 0.5, [servers])} == {job.pid, stubborn.pid}
    assert [process.is_running for process in (job, stubborn, *other_processes)] == [False, False, True, True, True]
    end_processes(other_processes, timeout_seconds=5)


def test_descendants_of_a_known_process_are_not_orphans(tmp_path: Path) -> None:
    server = start_detached(tmp_path / "servers" / "0123" / "home")
    assert orphans([server], [tmp_path / "servers"]) == []
    end_processes([server], timeout_seconds=5)


def test_a_process_that_sees_other_files_by_the_same_names_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = start_detached(tmp_path / "servers" / "0123" / "home")
    try:
        with monkeypatch.context() as patch:
            patch.setattr(os.path, "samestat", lambda *_stats: False)  # as for one in a container
            assert orphans([], [tmp_path / "servers"]) == []
        assert [process.pid for process in orphans([], [tmp_path / "servers"])] == [job.pid]
    finally:
        end_processes([job], timeout_seconds=5)
