"""Every key and channel in Redis is built here. What each is, and who has it: `families.py`."""

from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """The kinds of entities; a value is part of each key and of the metrics' label `kind`."""

    BUILD = "b"
    LAUNCH = "l"
    SERVER = "s"


class Topic(NamedTuple):
    """The event stream of one entity, and the name of its record."""

    kind: Kind
    id: str


class Keys:
    """Builds the keys of one installation."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    def _key(self, rest: str) -> str:
        return f"{self.prefix}:{rest}"

    # Nouns
    def record(self, topic: Topic) -> str:
        return self._key(f"{{{topic.kind}:{topic.id}}}:record")

    def events(self, topic: Topic) -> str:
        return self._key(f"{{{topic.kind}:{topic.id}}}:events")

    def news(self, topic: Topic) -> str:
        """The channel that says there is something new in a topic."""
        return self._key(f"{{{topic.kind}:{topic.id}}}:news")

    @property
    def idle_channel(self) -> str:
        """The channel that a process is subscribed to even if it follows nothing."""
        return self._key("{bus:self}:news")

    def waiters(self, build_id: str) -> str:
        return self._key(f"{{b:{build_id}}}:waiters")

    def log(self, build_id: str) -> str:
        return self._key(f"{{b:{build_id}}}:log")

    def attempt(self, image_key: str) -> str:
        return self._key(f"{{i:{image_key}}}:attempt")

    # Ownership
    def alive(self, process: str) -> str:
        return self._key(f"alive:{process}")

    def owned(self, process: str) -> str:
        return self._key(f"owned:{process}")

    def processes(self, service: str) -> str:
        return self._key(f"processes:{service}")

    def orphans(self, service: str) -> str:
        return self._key(f"orphans:{service}")

    def sweep(self, service: str) -> str:
        return self._key(f"sweep:{service}")

    def wake(self, service: str) -> str:
        """The channel that wakes a stage: an orphan, a request for a noun, a slot or seat that became free."""
        return self._key(f"wake:{service}")

    def __call__(self, name: str) -> str:
        """A key that there is one of: `logs`, `slots`, `{queue}:waiting`, `{seats}:members`, `installation` …"""
        return self._key(name)
