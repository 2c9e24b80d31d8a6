"""`bindery up`: from nothing to a running Bindery, and back to nothing."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx

from deploy.local.components import Component, plan_components
from deploy.local.console import Console
from deploy.local.installation import Installation, open_installation
from deploy.local.ports import Ports, hold_ports
from deploy.local.preflight import check_machine, warnings
from deploy.local.processes import Process
from deploy.local.run_record import AlreadyRunning, RunRecord, end_leftovers, find_leftovers, lock
from deploy.local.settings import Settings, StartupError
from deploy.local.sockets import open_socket_folder, remove_socket_folders, socket_folder
from deploy.local.start_token import address, keep, running_address
from deploy.local.supervisor import GivenUp, Supervisor

_AS_YOU = "it runs what strangers' repositories say, as you, with your files in reach"
_IN_CONTAINERS = "it builds and runs what strangers' repositories say, in containers"
_LETS_IN = "It listens on loopback only, and lets in who opens this address, or has what it ends in."
_OPEN_TO_ALL = (
    "It listens on loopback only, but BINDERY_START_TOKEN is empty: it asks for no token, so every user and program of "
    "this machine may launch what they like."
)

Plan = Callable[[Settings, Installation, httpx.AsyncClient, Mapping[str, str], Ports], Sequence[Component]]


def up(settings: Settings, plan: Plan = plan_components) -> int:
    """Run the stack until Ctrl-C or SIGTERM. Returns the exit status: 1 when it had to give up.

    Raises `StartupError` when it can't start: already running, a port in use, something missing.
    """
    try:
        with lock(settings.run_dir):
            installation = open_installation(settings.data_dir)
            console = Console(settings.logs_dir, settings.part_log_max_bytes, settings.part_log_backups)
            try:
                settings.processes_dir.mkdir(mode=0o700, exist_ok=True)
                _end_leftovers(settings, console)
                check_machine()
                for warning in warnings(os.environ):
                    console.say(warning)
                open_socket_folder(socket_folder(settings.data_dir, os.environ))
                with hold_ports(settings) as ports:
                    return asyncio.run(_serve(settings, installation, console, plan, ports))
            finally:
                remove_socket_folders(settings.data_dir, os.environ)
                console.close()
    except AlreadyRunning:
        raise StartupError(f"Bindery is already running: {_where(settings)} (`make stop` ends it).") from None


def _where(settings: Settings) -> str:
    try:
        return running_address(settings.run_dir)
    except StartupError:  # it is just starting, or ending
        return settings.url


async def _serve(settings: Settings, installation: Installation, console: Console, plan: Plan, ports: Ports) -> int:
    timeout = httpx.Timeout(settings.health_timeout_seconds)
    async with httpx.AsyncClient(trust_env=False, timeout=timeout) as client:
        parts = plan(settings, installation, client, os.environ, ports)
        keep(settings)
        record = RunRecord(settings.run_dir, settings.urls)
        supervisor = Supervisor(settings, console, record, parts)
        status = 0
        try:
            await _until_asked_to_stop(supervisor, settings, console)
        except GivenUp as reason:
            status = 1
            for line in str(reason).splitlines():
                console.say(line)
        finally:
            await supervisor.end()
            await _end_builds_and_servers(settings, console)
    console.say("everything has ended")
    return status


async def _until_asked_to_stop(supervisor: Supervisor, settings: Settings, console: Console) -> None:
    """Keep the parts running. Raises `GivenUp` when that can't go on."""
    stopping = asyncio.Event()
    _on_signals(stopping, supervisor, console)
    asked = asyncio.create_task(stopping.wait(), name="asked to stop")
    keeping = asyncio.create_task(supervisor.keep_all(), name="keep all")
    announcing = asyncio.create_task(_announce_when_healthy(supervisor, settings, console), name="announce")
    tasks: set[asyncio.Task[Any]] = {asked, keeping, announcing}
    try:
        pending = tasks
        while not asked.done():
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _announce_when_healthy(supervisor: Supervisor, settings: Settings, console: Console) -> None:
    began = time.monotonic()
    await supervisor.until_healthy()
    console.say(f"all parts are healthy after {time.monotonic() - began:.1f} s")
    for line in _start_message(settings):
        console.announce(line)  # on the terminal alone: no log file gets the token


def _start_message(settings: Settings) -> list[str]:
    as_you, token = settings.servers_by == "process", settings.start_token.get_secret_value()
    return [
        f"This is Bindery for your own machine: {_AS_YOU if as_you else _IN_CONTAINERS}.",
        ("Launch only what you trust. " if as_you else "") + (_LETS_IN if token else _OPEN_TO_ALL),
        f"Bindery is ready: {address(settings.url, token)}",
    ]


async def _end_builds_and_servers(settings: Settings, console: Console) -> None:
    running = await asyncio.to_thread(find_leftovers, settings)
    if running:
        console.say(f"ending running builds and servers: {_named(running)}")
    await asyncio.to_thread(end_leftovers, settings)


def _on_signals(stopping: asyncio.Event, supervisor: Supervisor, console: Console) -> None:
    asked_at: list[float] = []

    def stop() -> None:
        if not asked_at:
            console.say("ending everything (once more to kill it)")
            stopping.set()
        elif time.monotonic() - asked_at[0] > 1.0:  # make and the terminal may each pass on the same Ctrl-C
            supervisor.hasten()
        asked_at.append(time.monotonic())

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop)


def _end_leftovers(settings: Settings, console: Console) -> None:
    if ended := end_leftovers(settings):
        console.say(f"ended what an earlier run left behind: {_named(ended)}")


def _named(processes: Sequence[Process]) -> str:
    return ", ".join(sorted({one.what for one in processes}))
