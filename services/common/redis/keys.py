"""Every key and channel in Redis is built here. What each is, and who has it: `families.py`."""

from typing import NamedTuple


class Topic(NamedTuple):
    """An event stream: `b` of a build, `l` of a launch, `s` of a server."""

    kind: str
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

    def processes(self, stage: str) -> str:
        return self._key(f"processes:{stage}")

    def orphans(self, stage: str) -> str:
        return self._key(f"orphans:{stage}")

    def sweep(self, stage: str) -> str:
        return self._key(f"sweep:{stage}")

    def wake(self, stage: str) -> str:
        """The channel that wakes a stage: an orphan, a request for a noun, a slot or seat that became free."""
        return self._key(f"wake:{stage}")

    def __call__(self, name: str) -> str:
        """A key that there is one of: `logs`, `slots`, `{queue}:waiting`, `{seats}:members`, `installation` …"""
        return self._key(name)
