"""Positions in an event stream: how they compare, and how they are written in an `id:`.

Redis names an entry `<milliseconds>-<sequence>`. An entry may hold several events, so a follower's position in a topic
is `<entry>.<events>`, where `events` is the number of that entry's events that the follower has received.
"""

import re
from typing import NamedTuple

STREAM_START = "0-0"
"""The position before every entry."""

_POSITION = re.compile(r"(\d{1,20})(?:-(\d{1,20}))?(?:\.(\d{1,20}))?", re.ASCII)
_LARGEST = 2**64 - 1
"""The largest number in the id of a Redis stream entry."""


class TopicPosition(NamedTuple):
    """How far a follower has got in a topic: an entry, and the number of its events that the follower has.

    If `events` is 0, the follower has the whole entry, and the stream continues with the next one.
    """

    entry: str = STREAM_START
    events: int = 0


TOPIC_START = TopicPosition()


def position_key(entry: str) -> tuple[int, int]:
    """Return an entry's id as a pair that compares in stream order."""
    milliseconds, _, sequence = entry.partition("-")
    return int(milliseconds or 0), int(sequence or 0)


def position_before(entry: str) -> str:
    """Return the position immediately before an entry, so that reading beyond it begins with the entry."""
    milliseconds, sequence = position_key(entry)
    if sequence:
        return f"{milliseconds}-{sequence - 1}"
    if milliseconds:
        return f"{milliseconds - 1}-{_LARGEST}"
    return STREAM_START


def parse_position(text: str) -> TopicPosition:
    """Return the position that `text` names. Raise `ValueError` for a text that is not a position."""
    match = _POSITION.fullmatch(text)
    if match is None:
        raise ValueError(text)
    milliseconds, sequence, events = (int(digits or 0) for digits in match.groups())
    if max(milliseconds, sequence, events) >= _LARGEST:
        raise ValueError(text)
    return TopicPosition(f"{milliseconds}-{sequence}", events)


def resume_point(name: str, event_id: str) -> TopicPosition | None:
    """Return the position behind an `id:` in the stream of the topic `name`; None for any other text."""
    topic, _, text = event_id.strip().partition("~")
    try:
        position = parse_position(text)
    except ValueError:
        return None
    if topic != name:
        return None
    if not position.events:  # the id of a gap: nothing of its entry was delivered
        return TopicPosition(position_before(position.entry))
    return position
