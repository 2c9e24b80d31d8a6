"""Recorded output of programs that failed, as a build's log has it. To add a case, add a file to `recorded`.

A file is named `<program>-<version>.<case>.log`. It begins with what is expected: `says` is the executor's sentence
about the end, `rule` and `line` what is found (the number of the log's line, from 1), and each `quote` a quoted line.
Below the dashes is the log. uv 0.13.9, pip 26.3 and py-rattler 0.28 were run for it, the last against a channel on
loopback; what other versions and programs say is after public logs of theirs, shortened, with names of our own.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from services.common.streams.entries import Entry

FOLDER = Path(__file__).parent / "recorded"


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One file."""

    says: str
    rule: str
    line: int
    quote: str
    log: tuple[str, ...]


def recording(path: Path) -> Recording:
    """Return what a file has."""
    head, _, log = path.read_text(encoding="utf-8").partition("\n----\n")
    fields: dict[str, list[str]] = {}
    for line in head.splitlines():
        name, _, value = line.partition(": ")
        fields.setdefault(name, []).append(value)
    return Recording(
        says=fields["says"][0],
        rule=fields["rule"][0],
        line=int(fields["line"][0]),
        quote="\n".join(fields["quote"]),
        log=tuple(log.removesuffix("\n").split("\n")),
    )


def entries_of(lines: Iterable[str], *, events_each: int = 3, phase: str = "building") -> list[Entry]:
    """Return a stream that has been created and has these lines, a few in each entry."""
    texts = [{"phase": phase, "message": f"{line}\n"} for line in lines]
    entries = [Entry.first("100-0", b'[{"phase":"waiting"}]')]
    for start in range(0, len(texts), events_each):
        number = len(entries) + 1
        payload = json.dumps(texts[start : start + events_each]).encode()
        entries.append(Entry(id=f"{99 + number}-0", number=number, lines=start + 1, bytes_before=0, payload=payload))
    return entries
