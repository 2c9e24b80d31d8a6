"""Keeping the parts running: started in order, restarted with back-off, given up after too many deaths, ended."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass

from deploy.local.components import Component, stop_stages
from deploy.local.console import Console
from deploy.local.processes import Process, process_of
from deploy.local.run_record import RunRecord
from deploy.local.settings import CHECKOUT, Settings

# A new process waits for a line until its record is written, and ends when that line can never come: no process of
# ours is ever unknown to the `up` that cleans up after this one.
GATE = ("/bin/sh", "-c", 'read -r go || exit 0; exec "$@" </dev/null', "part")
LONGEST_LINE_BYTES = 16 * 1024


class GivenUp(Exception):
    """The stack can't go on: a part keeps dying, or not all were healthy in time. The message says it to the user."""


@dataclass
class Child:
    """A part's process, and the task that relays what it says."""

    process: asyncio.subprocess.Process
    record: Process
    relay: asyncio.Task[None]


class Supervisor:
    """Runs parts until told to stop."""

    def __init__(self, settings: Settings, console: Console, record: RunRecord, parts: Sequence[Component]) -> None:
        self._settings, self._console, self._record, self._parts = settings, console, record, parts
        self._children: dict[str, Child] = {}
        self._healthy = {part.name: asyncio.Event() for part in parts}
        self._troubles: dict[str, str] = {}

    async def keep_all(self) -> None:
        """Start every part when what it waits for is healthy, and restart it when it dies. Ends by `GivenUp` only."""
        try:
            async with asyncio.TaskGroup() as group:
                for part in self._parts:
                    group.create_task(self._keep(part), name=f"keep {part.name}")
                    group.create_task(self._watch_until_healthy(part), name=f"watch {part.name}")
        except BaseExceptionGroup as several:
            if given_up := several.subgroup(GivenUp):
                raise given_up.exceptions[0] from None
            raise

    async def until_healthy(self) -> None:
        """Wait until each part has been healthy. Raises `GivenUp`, naming those that aren't, after the deadline."""
        try:
            async with asyncio.timeout(self._settings.ready_timeout_seconds):
                for event in self._healthy.values():
                    await event.wait()
        except TimeoutError:
            waiting = [name for name, event in self._healthy.items() if not event.is_set()]
            why = "; ".join(f"{name}: {self._troubles.get(name, 'not started')}" for name in waiting)
            message = f"Not healthy after {self._settings.ready_timeout_seconds:g} s: {why}"
            raise GivenUp("\n".join([message, *self._last_lines(waiting[0])])) from None

    async def end(self) -> None:
        """End every part, stage by stage; within a stage all at once. Nobody may be keeping them any more."""
        for stage in stop_stages(self._parts):
            await asyncio.gather(*(self._end(name) for name in stage))

    def hasten(self) -> None:
        """Kill every part at once."""
        for child in self._children.values():
            child.record.signal(signal.SIGKILL)

    async def _keep(self, part: Component) -> None:
        for name in part.after:
            await self._healthy[name].wait()
        deaths: list[float] = []
        settings = self._settings
        while True:
            child = await self._start(part)
            status = await child.process.wait()
            await self._after_death(part.name, child)
            now = time.monotonic()
            deaths = [at for at in deaths if now - at < settings.restart_window_seconds] + [now]
            how = f"{part.name} died ({_describe(status)})"
            if len(deaths) >= settings.restart_limit:
                within = f"{len(deaths)} times within {settings.restart_window_seconds:g} s"
                log = f"Its log: {settings.logs_dir / part.name}.log. Its last lines:"
                raise GivenUp("\n".join([f"{how}, {within}: giving up. {log}", *self._last_lines(part.name)]))
            delay = min(settings.restart_delay_seconds * 2 ** (len(deaths) - 1), settings.restart_delay_max_seconds)
            self._console.say(f"{how}; it is started again in {delay:g} s")
            await asyncio.sleep(delay)

    async def _start(self, part: Component) -> Child:
        output, their_output = os.pipe()
        their_gate, gate = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *GATE,
                *part.command,
                stdin=their_gate,
                stdout=their_output,
                stderr=their_output,
                env=dict(part.environment),
                cwd=CHECKOUT,
                start_new_session=True,
                pass_fds=part.descriptors,
            )
            # Our own pipe and not asyncio's: its `wait` would also wait for whoever inherited the pipe.
            relay = asyncio.create_task(self._relay(part.name, output), name=f"relay {part.name}")
            record = process_of(process.pid, part.name)
            self._children[part.name] = child = Child(process, record, relay)
            self._record.started(part.name, record)
            with contextlib.suppress(BrokenPipeError):
                os.write(gate, b"go\n")
            return child
        finally:
            for descriptor in (their_output, their_gate, gate):
                os.close(descriptor)

    async def _relay(self, name: str, output: int) -> None:
        reader = asyncio.StreamReader()
        pipe = os.fdopen(output, "rb", buffering=0)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        pending = b""
        try:
            while chunk := await reader.read(64 * 1024):
                *lines, pending = (pending + chunk).split(b"\n")
                while len(pending) > LONGEST_LINE_BYTES:
                    lines.append(pending[:LONGEST_LINE_BYTES])
                    pending = pending[LONGEST_LINE_BYTES:]
                for line in lines:
                    self._console.part_says(name, line)
            if pending:
                self._console.part_says(name, pending)
        finally:
            transport.close()

    async def _watch_until_healthy(self, part: Component) -> None:
        while not self._healthy[part.name].is_set():
            if part.name in self._children:
                trouble = await part.health()
                if trouble is None and part.name in self._children:
                    self._healthy[part.name].set()
                self._troubles[part.name] = trouble or ""
            await asyncio.sleep(self._settings.health_poll_seconds)

    async def _end(self, name: str) -> None:
        if not (child := self._children.get(name)):
            return
        with contextlib.suppress(ProcessLookupError):
            child.process.terminate()
            child.process.send_signal(signal.SIGCONT)  # a stopped process can't end
        try:
            async with asyncio.timeout(self._settings.stop_timeout_seconds):
                await child.process.wait()
        except TimeoutError:
            self._console.say(f"{name} did not end within {self._settings.stop_timeout_seconds:g} s: killed")
            child.record.signal(signal.SIGKILL)
            await child.process.wait()
        await self._after_death(name, child)

    async def _after_death(self, name: str, child: Child) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.record.pid, signal.SIGKILL)  # what it started in its own group goes with it
        await asyncio.wait({child.relay}, timeout=0.5)  # its last words; a user's server may hold the pipe for long
        self._children.pop(name, None)
        self._record.ended(name)

    def _last_lines(self, name: str) -> list[str]:
        return [f"  {line}" for line in self._console.last_lines(name)]


def _describe(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    return signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
