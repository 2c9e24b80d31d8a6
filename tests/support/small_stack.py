"""`up` with small parts of a test's own in place of the services: real processes, and what is printed of them."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from deploy.local.process_table import process_start_time
from deploy.local.processes import Process, process_of
from deploy.local.settings import CHECKOUT
from tests.support.polling import eventually

DRIVER = """
import json, os, sys
from deploy.local.components import Component
from deploy.local.settings import StartupError, read_settings
from deploy.local.up import up

def plan(settings, installation, client, environ, ports):
    parts = json.loads(environ["TEST_PARTS"])
    return [
        Component(
            name=name, command=(sys.executable, "-c", code), environment=dict(environ), descriptors=ports.descriptors
        )
        for name, code in parts.items()
    ]

try:
    sys.exit(up(read_settings(), without=sys.argv[1:], planner=plan))
except StartupError as error:
    print(error)
    sys.exit(1)
"""

STAYS = """
import contextlib, signal
with contextlib.suppress(BrokenPipeError):  # who reads this may have been killed
    print('here', flush=True)
while True: signal.pause()
"""
STAYS_STUBBORNLY = """
import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('here', flush=True)
while True: signal.pause()
"""


def is_running(pid: int) -> bool:
    return process_start_time(pid) is not None


def start_process(code: str, name: str = "test") -> tuple[subprocess.Popen[str], Process]:
    """Start a Python process that leads a session, and wait for its first line."""
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    return process, process_of(process.pid, name)


DETACHES = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {code!r}], start_new_session=True, stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid)
"""


def start_detached(run: Path, code: str = STAYS) -> Process:
    """Start a process whose parent has ended, in a session of its own, as `nohup` in a terminal leaves one behind."""
    environ = os.environ | {"BINDERY_RUN": str(run)}
    command = [sys.executable, "-c", DETACHES.format(code=code)]
    process = subprocess.run(command, env=environ, stdout=subprocess.PIPE, text=True, check=True)
    return process_of(int(process.stdout), "detached")


class SmallStack:
    """One `up`, in a process of its own."""

    def __init__(
        self, data_dir: Path, port: int, parts: Mapping[str, str], *, without: Sequence[str] = (), **settings: object
    ) -> None:
        self.data_dir = data_dir
        self.port = port
        self.lines: list[str] = []
        environ = {name: value for name, value in os.environ.items() if not name.startswith("BINDERY_")}
        environ |= {f"BINDERY_{name.upper()}": str(value) for name, value in settings.items()}
        environ |= {"BINDERY_DATA_DIR": str(data_dir), "BINDERY_PORT": str(port), "TEST_PARTS": json.dumps(dict(parts))}
        self.process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, *without],
            cwd=CHECKOUT,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        self._reader.join(10)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def until_printed(self, text: str, times: int = 1) -> None:
        """Wait until `times` lines contain `text`."""
        eventually(
            lambda: sum(text in line for line in self.lines) >= times or self._has_ended(),
            f"{text!r} in {self.lines}",
        )
        assert sum(text in line for line in self.lines) >= times, self.lines

    def _has_ended(self) -> bool:
        return self.process.poll() is not None and not self._reader.is_alive()

    def until_ready(self) -> Self:
        self.until_printed("Bindery is ready")
        return self

    def until_ended(self, seconds: float = 30.0) -> int:
        """Wait for the end and return the exit status; all lines have been read then."""
        status = self.process.wait(seconds)
        self._reader.join(10)
        return status

    def parts(self) -> dict[str, Process]:
        """Return the processes of the parts, as recorded."""
        run_record = json.loads((self.data_dir / "run" / "up.json").read_text())
        return {name: Process(**part) for name, part in run_record["parts"].items()}

    def part(self, name: str) -> Process:
        """Return the process of a part, as recorded."""
        return self.parts()[name]
