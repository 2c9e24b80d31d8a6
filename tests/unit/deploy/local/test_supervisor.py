"""Parts are started in order, restarted with back-off, given up after too many deaths, and ended whole."""

import asyncio
import io
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from deploy.local.components import Component, stop_stages
from deploy.local.console import Console
from deploy.local.health import HealthCheck, always_healthy
from deploy.local.processes import Process
from deploy.local.run_record import RECORD, RunRecord
from deploy.local.settings import Settings
from deploy.local.supervisor import GivenUp, Supervisor
from tests.support.polling import until
from tests.support.small_stack import STAYS, STAYS_STUBBORNLY, is_running

DIES = "print('one last word'); raise SystemExit(3)"


def part(name: str, code: str, health: HealthCheck = always_healthy, after: tuple[str, ...] = ()) -> Component:
    command = (sys.executable, "-c", code)
    return Component(name=name, command=command, environment={"PATH": os.environ["PATH"]}, health=health, after=after)


class SupervisorRun:
    """A supervisor at work, and what it printed."""

    def __init__(
        self, folder: Path, parts: list[Component], *, by_hand: Sequence[Component] = (), **settings: Any
    ) -> None:
        self.settings = Settings(data_dir=folder, **settings)
        self.settings.processes_dir.mkdir(parents=True)
        self.screen = io.StringIO()
        self.console = Console(self.settings.logs_dir, max_bytes=100_000, backups=1, stream=self.screen, environ={})
        record = RunRecord(self.settings.run_dir, "http://test")
        self.supervisor = Supervisor(
            settings=self.settings, console=self.console, record=record, components=parts, by_hand=by_hand
        )

    @asynccontextmanager
    async def keeping(self) -> AsyncIterator[asyncio.Task[None]]:
        task = asyncio.create_task(self.supervisor.keep_all())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await self.supervisor.end()
            self.console.close()

    def children(self) -> dict[str, Process]:
        """The processes on record, by the names of their parts."""
        record = json.loads((self.settings.run_dir / RECORD).read_text())
        return {name: Process(**process) for name, process in record["parts"].items()}

    async def until_printed(self, text: str, times: int = 1) -> None:
        async with asyncio.timeout(20):
            await until(lambda: self.screen.getvalue().count(text) >= times)


def printed_pids(run: SupervisorRun, name: str) -> list[int]:
    lines = run.screen.getvalue().splitlines()
    return [int(line.rpartition("|")[2]) for line in lines if line.startswith(f"{name:<10} |")]


async def test_a_dead_part_is_restarted_with_growing_waits_and_reported(tmp_path: Path) -> None:
    run = SupervisorRun(tmp_path, [part("dies", DIES)], restart_delay_seconds=0.01, restart_delay_max_seconds=0.03)
    async with run.keeping() as task:
        with pytest.raises(GivenUp):
            await asyncio.wait_for(task, 60)
    output = run.screen.getvalue()
    waits = [line.rpartition(" in ")[2] for line in output.splitlines() if "started again" in line]
    assert waits == ["0.01 s", "0.02 s", "0.03 s", "0.03 s"]
    assert output.count("dies died (exit status 3)") == 4


async def test_five_deaths_end_everything_with_the_last_lines(tmp_path: Path) -> None:
    run = SupervisorRun(tmp_path, [part("stays", STAYS), part("dies", DIES)], restart_delay_seconds=0.01)
    async with run.keeping() as task:
        with pytest.raises(GivenUp, match=r"dies died \(exit status 3\), 5 times within 60 s: giving up") as given_up:
            await asyncio.wait_for(task, 60)
    assert str(given_up.value).splitlines()[1:] == ["  one last word"] * 5


async def test_deaths_outside_the_window_are_forgotten(tmp_path: Path) -> None:
    run = SupervisorRun(
        tmp_path, [part("dies", DIES)], restart_delay_seconds=0.01, restart_window_seconds=0.001, restart_limit=2
    )
    async with run.keeping() as task:
        await run.until_printed("it is started again in 0.01 s", times=4)
        assert not task.done()


async def test_ending_leaves_nothing_even_of_a_stubborn_part(tmp_path: Path) -> None:
    run = SupervisorRun(tmp_path, [part("mild", STAYS), part("stubborn", STAYS_STUBBORNLY)], stop_timeout_seconds=0.3)
    async with run.keeping():
        await run.until_printed("here", times=2)
        children = run.children()
    assert len(children) == 2
    assert not any(child.is_running for child in children.values())
    assert "stubborn did not end within 0.3 s: killed" in run.screen.getvalue()


async def test_processes_in_the_group_of_a_dead_part_end_with_it(tmp_path: Path) -> None:
    code = (
        "import os, subprocess, sys, signal\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'])\n"
        "print(child.pid, flush=True); signal.pause()"
    )
    run = SupervisorRun(tmp_path, [part("parent", code)], restart_delay_seconds=0.01)
    async with run.keeping():
        await run.until_printed("parent     |")
        first = printed_pids(run, "parent")[0]
        os.kill(run.children()["parent"].pid, signal.SIGKILL)
        await run.until_printed("parent died (SIGKILL)")
        await asyncio.wait_for(until(lambda: not is_running(first)), 60)


async def test_a_part_starts_when_what_it_waits_for_is_healthy(tmp_path: Path) -> None:
    is_well = False

    async def health() -> str | None:
        return None if is_well else "still loading"

    run = SupervisorRun(tmp_path, [part("late", STAYS, after=("early",)), part("early", STAYS, health)])
    async with run.keeping():
        await run.until_printed("early      | here")
        assert "late" not in run.children()
        is_well = True
        await run.until_printed("late       | here")
        await asyncio.wait_for(run.supervisor.until_healthy(), 60)


@pytest.mark.slow
async def test_a_part_that_is_not_healthy_in_time_is_named_with_its_reason(tmp_path: Path) -> None:
    async def health() -> str | None:
        return "no hub"

    run = SupervisorRun(tmp_path, [part("fine", STAYS), part("sick", STAYS, health)], ready_timeout_seconds=1.5)
    async with run.keeping():
        await run.until_printed("sick       | here")
        with pytest.raises(GivenUp, match=r"Not healthy after 1\.5 s: sick: no hub\n  here"):
            await run.supervisor.until_healthy()


async def test_a_component_that_is_run_by_hand_is_not_started_but_waited_for(tmp_path: Path) -> None:
    is_up = asyncio.Event()

    async def health() -> str | None:
        return None if is_up.is_set() else "not yet"

    independent = part("alone", STAYS)
    run = SupervisorRun(
        tmp_path,
        [independent, part("late", STAYS, after=("hub",))],
        by_hand=[part("hub", STAYS, health)],
        ready_timeout_seconds=10,
    )
    async with run.keeping():
        await run.supervisor.until_healthy([independent])
        assert set(run.children()) == {"alone"}
        all_healthy = asyncio.create_task(run.supervisor.until_all_healthy())
        is_up.set()
        await asyncio.wait_for(all_healthy, 60)
        assert set(run.children()) == {"alone", "late"}
        await run.until_printed("hub, which is run by hand, is healthy")


class KilledWhileRecording(RunRecord):
    """The record of an `up` that dies between the start of a process and its record."""

    def add(self, name: str, process: Process) -> None:
        raise KeyboardInterrupt(f"killed before {name} was on record")


async def test_a_process_that_is_not_on_record_never_does_anything(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    settings.run_dir.mkdir()
    console = Console(settings.logs_dir, max_bytes=100_000, backups=1, stream=io.StringIO(), environ={})
    marks = part("marks", f"open({str(tmp_path / 'mark')!r}, 'w')")
    record = KilledWhileRecording(settings.run_dir, "http://test")
    supervisor = Supervisor(settings=settings, console=console, record=record, components=[marks])
    with pytest.raises(KeyboardInterrupt):
        await supervisor._start(marks)
    assert await asyncio.wait_for(supervisor._children["marks"].process.wait(), 10) == 0
    assert not (tmp_path / "mark").exists()
    console.close()


def test_ends_in_the_order_in_which_work_flows() -> None:
    names = ["redis", "proxy", "hub", "culler", "resolver", "builder", "launcher", "worker", "worker-2", "gateway"]
    stages = [stage for stage in stop_stages([part(name, STAYS) for name in names]) if stage]
    assert stages == [
        *(["gateway"], ["launcher"], ["worker", "worker-2"], ["builder"], ["resolver"]),
        *(["culler"], ["hub"], ["proxy"], ["redis"]),
    ]
