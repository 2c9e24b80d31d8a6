"""The last lines of a build's log, as a terminal would show them, each with the position that leads to it."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from redis.asyncio import Redis

from services.builder.executors.process.session.log import LOG_IS_CUT
from services.common.models import Phase
from services.common.redis.keys import Keys, Topic
from services.common.service.redaction import without_userinfo
from services.common.streams.entries import Entry
from services.common.streams.log_store import last_entries

TAIL_BYTES = 128 * 1024
"""How much of a log's end is read, as it is stored: what says why a build failed was printed late."""

_FROM_PROGRAMS = frozenset({Phase.BUILDING, Phase.PUSHING})
_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
)
"""A terminal sequence, as in `static/log.js` of the gateway: each match consumes all that it has read."""
_INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Control characters except the tab, and marks that would reorder the text around them."""


@dataclass(frozen=True)
class TailLine:
    """A line of text. The log that is read `after` this position begins with the event that the line belongs to."""

    after: str
    text: str


async def read_tail(redis: Redis, keys: Keys, topic: Topic) -> list[TailLine]:
    """Return the last lines of the log of a build that is live, of at most `TAIL_BYTES` and one entry."""
    return tail_lines(await last_entries(redis, keys, topic, max_bytes=TAIL_BYTES))


def tail_lines(entries: Iterable[Entry]) -> list[TailLine]:
    """Return the lines of programs behind the last gap: what is known to be one piece, and of one run of the build.

    A log that a session has cut ends with a gap: what its programs printed last is not there.
    """
    lines: list[TailLine] = []
    after: str | None = None  # not known for the first event that is read, nor behind events that are missing
    next_line: int | None = None
    for entry in entries:
        if entry.is_first:
            after = ""
        if next_line is not None and entry.lines > next_line:
            lines.clear()
            after = None
        next_line = entry.lines + len(entry.events)

        for number, event in enumerate(entry.events, start=1):
            message = str(event.get("message", ""))
            if event.get("phase") == Phase.GAP or LOG_IS_CUT.match(message):
                lines.clear()
            elif after is not None and event.get("phase") in _FROM_PROGRAMS:
                lines += [TailLine(after, text) for text in _texts(message)]
            after = f"{entry.id}.{number}"
    return lines


def _texts(message: str) -> Iterator[str]:
    """Yield the lines of a message as a terminal would leave them: what follows a carriage return replaces a line.

    Logins in URLs are blanked: an error is shown in more places than the log that it quotes.
    """
    for line in _SEQUENCE.sub("", message).removesuffix("\n").split("\n"):
        pieces = [piece for piece in line.split("\r") if piece]
        yield without_userinfo(_INVISIBLE.sub("", pieces[-1] if pieces else "").rstrip())
