"""Keeps the components running: started in order, restarted with back-off, given up after too many exits, ended."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from deploy.local.components import Component, stop_stages
from deploy.local.console import Console
from deploy.local.health import always_healthy
from deploy.local.processes import Process, process_of
from deploy.local.run_record import RunRecord
from deploy.local.settings import CHECKOUT, Settings

# A new process waits for a line until its record is written, and ends if that line can never come: there is no
# process of ours that the `up` which cleans up after this one does not know.
GATE = ("/bin/sh", "-c", 'read -r go || exit 0; exec "$@" </dev/null', "part")
LONGEST_LINE_BYTES = 16 * 1024
LAST_OUTPUT_SECONDS = 0.5
"""How long the last output of a component is waited for: a user's server may hold the pipe for long."""

BY_HAND_POLL_SECONDS = 0.5
"""Time between two health checks of a component that is run by hand, which may be away for hours."""


class GivenUp(Exception):
    """The stack can't go on: a component keeps exiting, or not all became healthy in time. The message is for users."""


@dataclass
class Child:
    """The process of a component, and the task that relays its output."""

    process: asyncio.subprocess.Process
    record: Process
    relay: asyncio.Task[None]


class Supervisor:
    """Runs components until it is asked to end them, and watches for those that are run by hand."""

    def __init__(
        self,
        *,
        settings: Settings,
        console: Console,
        record: RunRecord,
        components: Sequence[Component],
        by_hand: Sequence[Component] = (),
    ) -> None:
        """Prepare to run `components`; those `by_hand` are only asked for their health."""
        self._settings = settings
        self._console = console
        self._record = record
        self._components = components
        self._by_hand = by_hand

        self._children: dict[str, Child] = {}
        self._healthy = {component.name: asyncio.Event() for component in (*components, *by_hand)}
        self._health_problems: dict[str, str] = {}

    async def keep_all(self) -> None:
        """Start each component when those before it are healthy, and restart it when it exits.

        Ends only by `GivenUp`.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for component in self._components:
                    group.create_task(self._keep(component), name=f"keep {component.name}")
                    group.create_task(self._watch_until_healthy(component), name=f"watch {component.name}")
                for component in self._by_hand:
                    group.create_task(self._watch_by_hand(component), name=f"watch {component.name}")
        except BaseExceptionGroup as errors:
            if given_up := errors.subgroup(GivenUp):
                raise given_up.exceptions[0] from None
            raise

    async def until_healthy(self, components: Iterable[Component] | None = None) -> None:
        """Wait until each of `components` (all that we run, if None) has been healthy.

        Raise `GivenUp`, with the names of those that are not, after `ready_timeout_seconds`.
        """
        if components is None:
            components = self._components
        names = [component.name for component in components]

        timeout_seconds = self._settings.ready_timeout_seconds
        try:
            async with asyncio.timeout(timeout_seconds):
                for name in names:
                    await self._healthy[name].wait()
        except TimeoutError:
            waiting = [name for name in names if not self._healthy[name].is_set()]
            why = "; ".join(f"{name}: {self._health_problems.get(name, 'not started')}" for name in waiting)
            lines = [f"Not healthy after {timeout_seconds:g} s: {why}", *self._last_lines(waiting[0])]
            raise GivenUp("\n".join(lines)) from None

    async def until_all_healthy(self) -> None:
        """Wait until each component, also those run by hand, has been healthy, however long that takes."""
        for event in self._healthy.values():
            await event.wait()

    async def end(self) -> None:
        """End every component, stage by stage, those of a stage at once. `keep_all` must have ended."""
        for stage in stop_stages(self._components):
            await asyncio.gather(*(self._end(name) for name in stage))

    def kill_all(self) -> None:
        """Kill every component at once."""
        for child in self._children.values():
            child.record.signal(signal.SIGKILL)

    async def _keep(self, component: Component) -> None:
        for name in component.after:
            await self._healthy[name].wait()

        exits: list[float] = []
        settings = self._settings
        while True:
            child = await self._start(component)
            status = await child.process.wait()
            await self._after_exit(component.name, child)

            now = time.monotonic()
            exits = [at for at in exits if now - at < settings.restart_window_seconds] + [now]
            cause = f"{component.name} died ({_describe(status)})"
            if len(exits) >= settings.restart_limit:
                raise self._given_up(component.name, f"{cause}, {len(exits)} times")

            delay = min(settings.restart_delay_seconds * 2 ** (len(exits) - 1), settings.restart_delay_max_seconds)
            self._console.say(f"{cause}; it is started again in {delay:g} s")
            await asyncio.sleep(delay)

    def _given_up(self, name: str, cause: str) -> GivenUp:
        within = f"{self._settings.restart_window_seconds:g} s"
        log = self._settings.logs_dir / f"{name}.log"
        first = f"{cause} within {within}: giving up. Its log: {log}. Its last lines:"
        return GivenUp("\n".join([first, *self._last_lines(name)]))

    async def _start(self, component: Component) -> Child:
        output, their_output = os.pipe()
        their_gate, gate = os.pipe()

        try:
            process = await asyncio.create_subprocess_exec(
                *GATE,
                *component.command,
                stdin=their_gate,
                stdout=their_output,
                stderr=their_output,
                env=dict(component.environment),
                cwd=CHECKOUT,
                start_new_session=True,
                pass_fds=component.descriptors,
            )

            # Our own pipe and not asyncio's: its `wait` would also wait for all that have inherited the pipe.
            relay = asyncio.create_task(self._relay(component.name, output), name=f"relay {component.name}")
            child = Child(process, process_of(process.pid, component.name), relay)
            self._children[component.name] = child
            self._record.add(component.name, child.record)

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

        rest = b""
        try:
            while chunk := await reader.read(64 * 1024):
                *lines, rest = (rest + chunk).split(b"\n")
                while len(rest) > LONGEST_LINE_BYTES:
                    lines.append(rest[:LONGEST_LINE_BYTES])
                    rest = rest[LONGEST_LINE_BYTES:]
                for line in lines:
                    self._console.relay(name, line)

            if rest:
                self._console.relay(name, rest)
        finally:
            transport.close()

    async def _watch_until_healthy(self, component: Component) -> None:
        healthy = self._healthy[component.name]
        while not healthy.is_set():
            if component.name in self._children:
                problem = await component.health()
                if problem is None and component.name in self._children:
                    healthy.set()
                self._health_problems[component.name] = problem or ""

            await asyncio.sleep(self._settings.health_poll_seconds)

    async def _watch_by_hand(self, component: Component) -> None:
        while await component.health():
            await asyncio.sleep(BY_HAND_POLL_SECONDS)

        self._healthy[component.name].set()
        if component.health is not always_healthy:
            self._console.say(f"{component.name}, which is run by hand, is healthy")

    async def _end(self, name: str) -> None:
        child = self._children.get(name)
        if child is None:
            return

        with contextlib.suppress(ProcessLookupError):
            child.process.terminate()
            child.process.send_signal(signal.SIGCONT)  # a stopped process can't end

        timeout_seconds = self._settings.stop_timeout_seconds
        try:
            async with asyncio.timeout(timeout_seconds):
                await child.process.wait()
        except TimeoutError:
            self._console.say(f"{name} did not end within {timeout_seconds:g} s: killed")
            child.record.signal(signal.SIGKILL)
            await child.process.wait()

        await self._after_exit(name, child)

    async def _after_exit(self, name: str, child: Child) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.record.pid, signal.SIGKILL)  # with its children in the same group

        await asyncio.wait({child.relay}, timeout=LAST_OUTPUT_SECONDS)
        self._children.pop(name, None)
        self._record.remove(name)

    def _last_lines(self, name: str) -> list[str]:
        return [f"  {line}" for line in self._console.last_lines(name)]


def _describe(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    if -status in set(signal.Signals):
        return signal.Signals(-status).name

    return f"signal {-status}"
