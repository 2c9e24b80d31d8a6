"""`bindery up`: from nothing to a running Bindery, and back to nothing."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any

import httpx

from deploy.local.by_hand import Division, check_kinds, divide, independent_of, write_instructions
from deploy.local.components import Component
from deploy.local.console import Console
from deploy.local.installation import Installation, open_installation
from deploy.local.plan import plan_components
from deploy.local.ports import Ports, hold_ports
from deploy.local.preflight import check_machine, warnings
from deploy.local.processes import Process
from deploy.local.run_record import AlreadyRunning, RunRecord, end_leftovers, find_leftovers, lock
from deploy.local.settings import Settings, StartupError
from deploy.local.sockets import open_socket_folder, remove_socket_folders, socket_folder
from deploy.local.start_token import address, running_address, write_token
from deploy.local.supervisor import GivenUp, Supervisor

_AS_YOU = "it runs the code of strangers' repositories as you, with your files in reach"
_IN_CONTAINERS = "it builds and runs the code of strangers' repositories in containers"
_ACCESS = "It listens on loopback only, and only for those who open this address or have the token at its end."
_OPEN_ACCESS = (
    "It listens on loopback only, but BINDERY_START_TOKEN is empty: it asks for no token, so every user and program of "
    "this machine may launch what they like."
)

CANCEL_SECONDS = 10.0
"""Time in which cancelled tasks end. The components are ended after that, whatever happens to the tasks."""

Planner = Callable[[Settings, Installation, httpx.AsyncClient, Mapping[str, str], Ports], Sequence[Component]]


def up(settings: Settings, *, without: Sequence[str] = (), planner: Planner = plan_components) -> int:
    """Run the stack until Ctrl-C or SIGTERM, and return the exit status: 1 if it was given up.

    Components of the kinds in `without` are left out, and the commands that start them by hand are printed. Raise
    `StartupError` if the stack can't start: it already runs, a port is in use, something is missing.
    """
    kinds = check_kinds(without)
    try:
        with lock(settings.run_dir):
            return _up_locked(settings, kinds, planner)
    except AlreadyRunning:
        raise StartupError(f"Bindery is already running: {_address_of(settings)} (`make stop` ends it).") from None


def _up_locked(settings: Settings, without: Collection[str], planner: Planner) -> int:
    installation = open_installation(settings.data_dir)
    console = Console(settings.logs_dir, max_bytes=settings.part_log_max_bytes, backups=settings.part_log_backups)
    try:
        settings.processes_dir.mkdir(mode=0o700, exist_ok=True)
        if leftovers := end_leftovers(settings):
            console.say(f"ended what an earlier run left behind: {_names_of(leftovers)}")

        check_machine()
        for warning in warnings(settings, os.environ):
            console.say(warning)

        open_socket_folder(socket_folder(settings.data_dir, os.environ))
        with hold_ports(settings, without) as ports:

            def plan(client: httpx.AsyncClient) -> Division:
                return divide(planner(settings, installation, client, os.environ, ports), without)

            return asyncio.run(_serve(settings, console, plan))
    finally:
        remove_socket_folders(settings.data_dir, os.environ)
        console.close()


def _address_of(settings: Settings) -> str:
    try:
        return running_address(settings.run_dir)
    except StartupError:  # it is just starting, or ending
        return settings.url


async def _serve(settings: Settings, console: Console, plan: Callable[[httpx.AsyncClient], Division]) -> int:
    timeout = httpx.Timeout(settings.health_timeout_seconds)
    async with httpx.AsyncClient(trust_env=False, timeout=timeout) as client:
        division = plan(client)
        write_token(settings)
        supervisor = Supervisor(
            settings=settings,
            console=console,
            record=RunRecord(settings.run_dir, settings.urls),
            components=division.by_up,
            by_hand=division.by_hand,
        )

        status = 0
        try:
            announcement = _announce_when_healthy(supervisor, settings, console, division)
            await _run_until_signal(supervisor, console, announcement)
        except GivenUp as reason:
            status = 1
            for line in str(reason).splitlines():
                console.say(line)
        finally:
            await supervisor.end()
            await _end_builds_and_servers(settings, console)

    console.say("everything has ended")
    return status


async def _run_until_signal(supervisor: Supervisor, console: Console, announcement: Coroutine[Any, Any, None]) -> None:
    """Keep the components running until a signal asks to stop. Raise `GivenUp` if that can't go on."""
    stopping = asyncio.Event()
    _on_signals(stopping, supervisor, console)

    stop_signal = asyncio.create_task(stopping.wait(), name="wait for a signal")
    keeping = asyncio.create_task(supervisor.keep_all(), name="keep all")
    announcing = asyncio.create_task(announcement, name="announce")
    tasks: set[asyncio.Task[Any]] = {stop_signal, keeping, announcing}

    def say_late_error(task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (error := task.exception()):
            console.say(f"a task failed when it was cancelled: {task.get_name()}: {type(error).__name__}: {error}")

    try:
        pending = tasks
        while not stop_signal.done():
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    finally:
        for task in tasks:
            if task.cancel():
                task.add_done_callback(say_late_error)
        _, remaining = await asyncio.wait(tasks, timeout=CANCEL_SECONDS)
        for task in remaining:
            console.say(f"left a task that did not end when it was cancelled: {task.get_name()}")


async def _announce_when_healthy(
    supervisor: Supervisor, settings: Settings, console: Console, division: Division
) -> None:
    started_at = time.monotonic()

    if division.by_hand:
        instructions = write_instructions(division.by_hand, settings.run_dir)
        independent = independent_of(division.by_hand, division.by_up)
        await supervisor.until_healthy(independent)
        console.say(f"what does not need {_kinds_of(division.by_hand)} is healthy: {_kinds_of(independent)}")
        for line in instructions:
            console.announce(line)
        await supervisor.until_all_healthy()
    else:
        await supervisor.until_healthy()

    console.say(f"all components are healthy after {time.monotonic() - started_at:.1f} s")
    for line in _start_message(settings):
        console.announce(line)  # on the terminal alone: the token gets into no log file


def _start_message(settings: Settings) -> list[str]:
    token = settings.start_token.get_secret_value()
    access = _ACCESS if token else _OPEN_ACCESS

    if settings.servers_by == "process":
        what = _AS_YOU
        access = f"Launch only what you trust. {access}"
    else:
        what = _IN_CONTAINERS

    return [
        f"This is Bindery for your own machine: {what}.",
        access,
        f"Bindery is ready: {address(settings.url, token)}",
    ]


async def _end_builds_and_servers(settings: Settings, console: Console) -> None:
    running = await asyncio.to_thread(find_leftovers, settings)
    if running:
        console.say(f"ending running builds and servers: {_names_of(running)}")

    await asyncio.to_thread(end_leftovers, settings)


def _on_signals(stopping: asyncio.Event, supervisor: Supervisor, console: Console) -> None:
    signalled_at: list[float] = []

    def stop() -> None:
        if not signalled_at:
            console.say("ending everything (once more to kill it)")
            stopping.set()
        elif time.monotonic() - signalled_at[0] > 1.0:  # make and the terminal may each pass on the same Ctrl-C
            supervisor.kill_all()
        signalled_at.append(time.monotonic())

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop)


def _kinds_of(components: Sequence[Component]) -> str:
    return ", ".join(dict.fromkeys(component.kind for component in components)) or "nothing"


def _names_of(processes: Sequence[Process]) -> str:
    return ", ".join(sorted({process.what for process in processes}))
