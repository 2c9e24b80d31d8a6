"""What the parts say: each line with its part's name on the terminal, and in a log file of bounded size."""

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
"""So many lines of a part are shown when it is given up."""

_COLOURS = (36, 33, 35, 32, 34, 96, 93, 95, 92, 94)
_COLOUR_CODE = re.compile(r"\x1b\[[0-9;]*m")
# Everything that could move the cursor or retitle a terminal: lines may quote strangers. Tabs stay.
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_WAITING_LINES = 5000


def harmless(line: str) -> str:
    """A line without colours, whose other control characters are shown instead of obeyed."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", _COLOUR_CODE.sub("", line))


class Terminal:
    """Prints from a thread of its own: a paused or closed terminal must never hold up the parts."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._lines: queue.Queue[str | None] = queue.Queue(_WAITING_LINES)
        self._left_out = 0
        self._thread = threading.Thread(target=self._write, name="terminal", daemon=True)
        self._thread.start()

    def line(self, text: str) -> None:
        """Print a line soon; when the terminal is thousands of lines behind, count it instead."""
        try:
            if self._left_out:
                self._lines.put_nowait(f"({self._left_out} lines left out: they are in the log files)")
                self._left_out = 0
            self._lines.put_nowait(text)
        except queue.Full:
            self._left_out += 1

    def close(self, timeout_seconds: float = 2.0) -> None:
        """Print what is waiting, for so long at most."""
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
    """Appends to `path`; at `max_bytes` the file becomes `.1`, that `.2`, and so on up to `backups`."""

    def __init__(self, path: Path, max_bytes: int, backups: int) -> None:
        self.path, self.max_bytes, self.backups = path, max_bytes, backups
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        path.chmod(0o600)

    def write(self, line: bytes) -> None:
        """Append one line, without its end. A full disk loses the line and nothing else."""
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
    """All that is printed while the stack runs. Colours only on a terminal, and not with `NO_COLOR` set."""

    def __init__(
        self,
        logs_dir: Path,
        max_bytes: int,
        backups: int,
        stream: TextIO | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        stream = stream or sys.stdout
        self._logs_dir, self._max_bytes, self._backups = logs_dir, max_bytes, backups
        self._terminal = Terminal(stream)
        self._has_colours = stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
        self._colours: dict[str, int] = {}
        self._logs: dict[str, LogFile] = {}
        self._last: dict[str, deque[str]] = {}

    def part_says(self, part: str, line: bytes) -> None:
        """Log a line of a part, and print it behind the part's name."""
        if part not in self._logs:
            self._logs[part] = LogFile(self._logs_dir / f"{part}.log", self._max_bytes, self._backups)
            self._last[part] = deque(maxlen=LAST_LINES)
        self._logs[part].write(line)
        text = harmless(line.decode(errors="replace").rstrip("\r"))
        self._last[part].append(text)
        self._terminal.line(self._prefix(part) + text)

    def say(self, line: str) -> None:
        """Print a line about the stack itself, behind our own name."""
        self._terminal.line(self._prefix(OURSELVES) + line)

    def announce(self, line: str) -> None:
        """Print a line as it is."""
        self._terminal.line(line)

    def last_lines(self, part: str) -> list[str]:
        """The last lines that a part said, oldest first."""
        return list(self._last.get(part, ()))

    def close(self) -> None:
        """Print what is waiting and close the log files."""
        self._terminal.close()
        for log in self._logs.values():
            log.close()

    def _prefix(self, part: str) -> str:
        name = f"{part:<10} | "
        if not self._has_colours:
            return name
        colour = (
            1 if part == OURSELVES else self._colours.setdefault(part, _COLOURS[len(self._colours) % len(_COLOURS)])
        )
        return f"\x1b[{colour}m{name}\x1b[0m"
