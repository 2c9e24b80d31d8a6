"""The log of a build: one JSON object a line, flushed at once, so that a follower only reads whole lines."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import IO

LOG_IS_CUT = re.compile(r"\[The log is longer than [0-9]+ bytes: the rest is left out\]")
"""The note behind which only the build's own messages follow."""


class BuildLog:
    """Appends to a build's log. A line that is too long is cut, and so is the log as a whole.

    Each line goes through `redact` before it is cut. A line that is overwritten while it is printed, as a progress bar
    is, is shown every `progress_seconds`.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_line_bytes: int,
        max_log_bytes: int,
        progress_seconds: float = 1,
        redact: Callable[[str], str] = str,
    ) -> None:
        self.progress_seconds = progress_seconds
        self._redact = redact
        self._file: IO[str] = path.open("a", encoding="utf-8")
        self._max_line_bytes = max_line_bytes
        self._left_bytes = max_log_bytes - path.stat().st_size
        self._max_log_bytes = max_log_bytes

    def write(self, phase: str, text: str) -> None:
        """Append a message of the build itself, line by line. Use `relay` for other programs: this has no bound."""
        for line in text.splitlines() or [""]:
            self._append(phase, self._cut(self._redact(line)))

    def relay(self, phase: str, line: bytes | str) -> None:
        """Append a line of a program's output, or of a server that it talks to, unless the log is too long by now."""
        if self._left_bytes <= 0:
            return

        text = line if isinstance(line, str) else line.decode("utf-8", "replace")
        text = self._cut(self._redact(text))
        self._left_bytes -= self._append(phase, text)
        if self._left_bytes <= 0:
            self._append(phase, f"[The log is longer than {self._max_log_bytes} bytes: the rest is left out]")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _cut(self, line: str) -> str:
        encoded = line.encode("utf-8", "replace")
        if len(encoded) <= self._max_line_bytes:
            return line

        start = encoded[: self._max_line_bytes].decode("utf-8", "ignore")
        return f"{start} [The line is cut: it is longer than {self._max_line_bytes} bytes]"

    def _append(self, phase: str, line: str) -> int:
        entry = json.dumps({"phase": phase, "message": f"{line}\n"}) + "\n"
        self._file.write(entry)
        self._file.flush()
        return len(entry)
