"""The names of every key and channel in Redis. What each means, and which service uses it: `families.py`."""

from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """The kinds of entities; a value is part of each key and of the metrics' label `kind`."""

    BUILD = "b"
    LAUNCH = "l"
    SERVER = "s"


KIND_OF_SERVICE = {"builder": Kind.BUILD, "gateway": Kind.LAUNCH, "launcher": Kind.SERVER}
"""The kind of records that the members of a service own."""


class Topic(NamedTuple):
    """The event stream of one entity, and the name of its record."""

    kind: Kind
    id: str

    @property
    def name(self) -> str:
        """Name of the record, in scripts, sets and logs: `<kind>:<id>`."""
        return f"{self.kind}:{self.id}"

    @classmethod
    def named(cls, name: str) -> "Topic":
        """Return the topic of a record's name. Raise `ValueError` if it is not a name of a record."""
        kind, _, topic_id = name.partition(":")
        return cls(Kind(kind), topic_id)


def service_of(process: str) -> str:
    """Return the service that a process is a member of, with which its name begins (`gateway-<host>-...`)."""
    return process.partition("-")[0]


class Keys:
    """Names of the keys and channels of one installation, which all begin with its prefix."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    def _key(self, rest: str) -> str:
        return f"{self.prefix}:{rest}"

    # Entities

    def record(self, topic: Topic) -> str:
        """Return the key of an entity's record, a hash."""
        return self._key(f"{{{topic.name}}}:record")

    def events(self, topic: Topic) -> str:
        """Return the key of an entity's events, a stream."""
        return self._key(f"{{{topic.name}}}:events")

    def news(self, topic: Topic) -> str:
        """Return the channel that carries each new entry of an entity's events."""
        return self._key(f"{{{topic.name}}}:news")

    def heartbeats(self, name: str) -> str:
        """Return the channel by which the process of that name proves that its subscription lives."""
        return self._key(f"{{bus:{name}}}:news")

    def waiters(self, build_id: str) -> str:
        """Return the key of the launches that wait for a build, a set."""
        return self._key(f"{{b:{build_id}}}:waiters")

    def log(self, build_id: str) -> str:
        """Return the key of a finished build's compressed log."""
        return self._key(f"{{b:{build_id}}}:log")

    def attempt(self, image_key: str) -> str:
        """Return the key of the number of the current attempt at an image."""
        return self._key(f"{{i:{image_key}}}:attempt")

    # Ownership

    def alive(self, process: str) -> str:
        """Return the key of a process's lease, which expires unless it is renewed."""
        return self._key(f"alive:{process}")

    def owned(self, process: str) -> str:
        """Return the key of the records that a process owns, a set."""
        return self._key(f"owned:{process}")

    def processes(self, service: str) -> str:
        """Return the key of the processes of a service, a set."""
        return self._key(f"processes:{service}")

    def orphans(self, service: str) -> str:
        """Return the key of a service's records that have no owner, a set."""
        return self._key(f"orphans:{service}")

    def sweep(self, service: str) -> str:
        """Return the key of a service's sweep lease, which names the process that looks for dead ones."""
        return self._key(f"sweep:{service}")

    def wake(self, service: str) -> str:
        """Return the channel that wakes a service: for orphans, cancel requests, free slots or free seats."""
        return self._key(f"wake:{service}")

    @property
    def policy_news(self) -> str:
        """The channel that carries the version of each new live policy."""
        return self._key("policy:news")

    def __call__(self, name: str) -> str:
        """Return a key that an installation has one of, such as `logs`, `slots` or `{queue}:waiting`."""
        return self._key(name)
