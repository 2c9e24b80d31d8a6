"""The output of the components: each line with its component's name on the terminal, and in a bounded log file."""

import os
import queue
import re
import sys
import threading
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

OURSELVES = "bindery"
LAST_LINES = 20
"""Number of lines of a component that are shown when it is given up."""

_COLOURS = (36, 33, 35, 32, 34, 96, 93, 95, 92, 94)
_COLOUR_CODE = re.compile(r"\x1b\[[0-9;]*m")
# Everything that could move the cursor or retitle a terminal: lines may quote strangers. Tabs stay.
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_WAITING_LINES = 5000


def harmless(line: str) -> str:
    """Return a line without colours, and with other control characters shown instead of obeyed."""
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", _COLOUR_CODE.sub("", line))


class Terminal:
    """Prints from a thread of its own: a paused or closed terminal must never hold up the components."""

    def __init__(self, stream: TextIO) -> None:
        """Start the thread, which prints to `stream`."""
        self.stream = stream
        self._lines: queue.Queue[str | None] = queue.Queue(_WAITING_LINES)
        self._omitted = 0
        self._thread = threading.Thread(target=self._write, name="terminal", daemon=True)
        self._thread.start()

    def line(self, text: str) -> None:
        """Print a line soon, or only count it while the terminal is thousands of lines behind."""
        try:
            if self._omitted:
                self._lines.put_nowait(f"({self._omitted} lines left out: they are in the log files)")
                self._omitted = 0
            self._lines.put_nowait(text)
        except queue.Full:
            self._omitted += 1

    def close(self, timeout_seconds: float = 2.0) -> None:
        """Print the lines that wait, for at most `timeout_seconds`."""
        try:
            self._lines.put(None, timeout=timeout_seconds)
        except queue.Full:
            return
        self._thread.join(timeout_seconds)

    def _write(self) -> None:
        is_open = True
        while (text := self._lines.get()) is not None:
            try:
                if is_open:
                    self.stream.write(text + "\n")
                    self.stream.flush()
            except (OSError, ValueError):
                is_open = False


class LogFile:
    """Appends to `path`; at `max_bytes` the file becomes `.1`, that one `.2`, and so on up to `backups`."""

    def __init__(self, path: Path, max_bytes: int, backups: int) -> None:
        """Open the file, which only its owner may read."""
        self.path = path
        self.max_bytes = max_bytes
        self.backups = backups

        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        path.chmod(0o600)

    def write(self, line: bytes) -> None:
        """Append a line, given without its end. A full disk loses the line and nothing else."""
        try:
            if self._file.tell() + len(line) > self.max_bytes:
                self._rotate()
            self._file.write(line + b"\n")
            self._file.flush()
        except OSError:
            return

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _rotate(self) -> None:
        self._file.close()

        names = [self.path, *(self.path.with_name(f"{self.path.name}.{n}") for n in range(1, self.backups + 1))]
        for older, newer in zip(reversed(names), reversed(names[:-1]), strict=False):
            if newer.exists():
                newer.replace(older)

        self._file = self.path.open("wb")
        self.path.chmod(0o600)


class Console:
    """All that is printed while the stack runs. Colours only on a terminal, and not if `NO_COLOR` is set."""

    def __init__(
        self,
        logs_dir: Path,
        *,
        max_bytes: int,
        backups: int,
        stream: TextIO | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        """Print to `stream` (standard output if None); see `LogFile` for the two bounds."""
        stream = stream or sys.stdout
        self._logs_dir = logs_dir
        self._max_bytes = max_bytes
        self._backups = backups

        self._terminal = Terminal(stream)
        self._has_colours = stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
        self._colours: dict[str, int] = {}
        self._logs: dict[str, LogFile] = {}
        self._last: dict[str, deque[str]] = {}

    def relay(self, component: str, line: bytes) -> None:
        """Log a line of a component, and print it behind the component's name."""
        if component not in self._logs:
            path = self._logs_dir / f"{component}.log"
            self._logs[component] = LogFile(path, self._max_bytes, self._backups)
            self._last[component] = deque(maxlen=LAST_LINES)

        self._logs[component].write(line)
        text = harmless(line.decode(errors="replace").rstrip("\r"))
        self._last[component].append(text)
        self._terminal.line(self._prefix(component) + text)

    def say(self, line: str) -> None:
        """Print a line about the stack itself, behind our own name."""
        self._terminal.line(self._prefix(OURSELVES) + line)

    def announce(self, line: str) -> None:
        """Print a line as it is."""
        self._terminal.line(line)

    def last_lines(self, component: str) -> list[str]:
        """Return the last lines of a component, oldest first."""
        return list(self._last.get(component, ()))

    def close(self) -> None:
        """Print the lines that wait, and close the log files."""
        self._terminal.close()
        for log in self._logs.values():
            log.close()

    def _prefix(self, name: str) -> str:
        text = f"{name:<10} | "
        if not self._has_colours:
            return text
        return f"\x1b[{self._colour(name)}m{text}\x1b[0m"

    def _colour(self, name: str) -> int:
        if name == OURSELVES:
            return 1
        return self._colours.setdefault(name, _COLOURS[len(self._colours) % len(_COLOURS)])
