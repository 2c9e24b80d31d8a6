"""The log of a build: one JSON object a line, flushed at once, so that a follower reads whole lines only."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import IO


class BuildLog:
    """Appends to a build's log; what the build says is cut where a line or the whole log is too long.

    Every line goes through `redact` before it is cut.
    """

    def __init__(
        self, path: Path, *, max_line_bytes: int, max_log_bytes: int, redact: Callable[[str], str] = str
    ) -> None:
        self._redact = redact
        self._file: IO[str] = path.open("a", encoding="utf-8")
        self._max_line_bytes = max_line_bytes
        self._left_bytes = max_log_bytes - path.stat().st_size
        self._max_log_bytes = max_log_bytes

    def write(self, phase: str, text: str) -> None:
        """Append what the build itself says, line by line. Not for words of others: nothing bounds them here."""
        for line in text.splitlines() or [""]:
            self._append(phase, self._cut(self._redact(line)))

    def relay(self, phase: str, line: bytes | str) -> None:
        """Append a line of a program's output, or of a server that it talks to, unless the log has become too long."""
        if self._left_bytes <= 0:
            return
        text = self._cut(self._redact(line if isinstance(line, str) else line.decode("utf-8", "replace")))
        self._left_bytes -= self._append(phase, text)
        if self._left_bytes <= 0:
            self._append(phase, f"[The log is longer than {self._max_log_bytes} bytes: the rest is left out]")

    def close(self) -> None:
        self._file.close()

    def _cut(self, line: str) -> str:
        encoded = line.encode("utf-8", "replace")
        if len(encoded) <= self._max_line_bytes:
            return line
        kept = encoded[: self._max_line_bytes].decode("utf-8", "ignore")
        return f"{kept} [The line is cut: it is longer than {self._max_line_bytes} bytes]"

    def _append(self, phase: str, line: str) -> int:
        entry = json.dumps({"phase": phase, "message": f"{line}\n"}) + "\n"
        self._file.write(entry)
        self._file.flush()
        return len(entry)
