"""The table that `make load` prints."""

import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import KW_ONLY, asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One measure. `numbers` are what the text says, by name, for the JSON.

    `failed` counts the builds or launches behind it that did not end well: the others' figures say little then.
    """

    measure: str
    text: str
    _: KW_ONLY
    goal: str = ""
    note: str = ""
    numbers: dict[str, float] = field(default_factory=dict)
    failed: int = 0


def render(rows: Sequence[Row]) -> str:
    """Plain text, aligned; a row without a text is a heading."""
    columns = [("measure", "measured", "to reach", "")]
    columns += [(row.measure, row.text, row.goal, row.note) for row in rows]
    widths = [max(len(line[at]) for line in columns if line[1]) for at in range(4)]
    lines = []
    for line in columns:
        if line[1]:
            lines.append("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
        else:
            lines += ["", f"{line[0]}"]
    lines.insert(1, "  ".join("-" * width for width in widths[:3]))
    return "\n".join(lines)


def machine() -> str:
    """Return the machine in a line: its cores, how busy it was at the start, and how long a fixed piece of Python took.

    That piece makes runs comparable: a busy or slow machine takes more CPU time for the same work.
    """
    load = os.getloadavg()[0]
    started_at = time.process_time()
    for _ in range(20_000):
        json.loads(json.dumps({"phase": "building", "message": "a line\n", "number": [1, 2, 3]}))
    yardstick = (time.process_time() - started_at) * 1000
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, load {load:.1f} at the start, "
        f"yardstick {yardstick:.0f} ms"
    )


def write_json(path: Path, rows: Sequence[Row], where: str) -> None:
    """Write the same as data."""
    entries = [asdict(row) for row in rows if row.text]
    path.write_text(json.dumps({"machine": where, "rows": entries}, indent=1) + "\n")
