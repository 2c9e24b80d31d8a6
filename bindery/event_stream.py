"""Parser of event streams (WHATWG HTML, section 9.2.6)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Message:
    """One message of a `text/event-stream`."""

    position: str
    """Position to resume from: the `id` of the last message that had one."""
    data: str
    retry_seconds: float | None


def parse_messages(lines: Iterable[str]) -> Iterator[Message]:
    """Yield the messages of an event stream. The last one is dropped if it is incomplete."""
    position = ""
    data = list[str]()
    retry_seconds = None

    for line in lines:
        if not line:
            if data or retry_seconds is not None:
                yield Message(position, "\n".join(data), retry_seconds)
            data = []
            retry_seconds = None
            continue

        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data.append(value)
        elif field == "id" and "\0" not in value:
            position = value
        elif field == "retry" and value.isascii() and value.isdigit():
            retry_seconds = int(value) / 1000
