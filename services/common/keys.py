"""Every key and channel in Redis is built here. `FAMILIES` says of each family what it is and when it goes."""

from dataclasses import dataclass
from typing import NamedTuple


class Topic(NamedTuple):
    """An event stream: `b` of a build, `l` of a launch, `s` of a server."""

    kind: str
    id: str


@dataclass(frozen=True)
class Family:
    """Keys of one shape. `pattern` is a Redis glob without the prefix; `nature` is cache, work or record."""

    pattern: str
    nature: str
    meaning: str
    expiry: str


FAMILIES = [
    Family(
        "{b:*}:record",
        "record",
        "a build: state, owner, epoch, position in the engine's output",
        "record_ttl_seconds after its end",
    ),
    Family("{b:*}:events", "work", "a build's lines and events", "10 min after its end, once the log is stored"),
    Family("{b:*}:waiters", "work", "the launches that wait for a build", "with the build's end"),
    Family(
        "{b:*}:log",
        "record",
        "a finished build's log, compressed",
        "log_ttl_seconds, or when log_total_max_bytes are full",
    ),
    Family("{l:*}:record", "record", "a launch", "record_ttl_seconds after its end"),
    Family("{l:*}:events", "record", "a launch's events", "record_ttl_seconds after its end"),
    Family("{s:*}:record", "record", "a server", "record_ttl_seconds after its end"),
    Family("{s:*}:events", "record", "a server's progress", "record_ttl_seconds after its end"),
    Family("{i:*}:attempt", "record", "the number of an image's current attempt", "30 days after the last attempt"),
    Family("logs", "record", "which logs lie in Redis, by age and size", "none; shrinks as logs go"),
    Family("logs:sizes", "record", "how large each log in Redis is", "none; shrinks as logs go"),
    Family("idempotency:*", "record", "which launch an Idempotency-Key started", "24 h"),
    Family(
        "fact:*", "cache", "what cannot change: a ref of a repository, an image in the registry", "fact_ttl_seconds"
    ),
    Family("policy:resolver", "cache", "which bans and allowances the resolver judges links by", "none; one key"),
    Family("policy:images", "cache", "where the builder has its images: prefix, registry, executor", "none; one key"),
    Family("alive:*", "work", "that a process lives", "lease_seconds"),
    Family("owned:*", "work", "what a process owns", "when it owns nothing"),
    Family("processes:*", "work", "the processes of a stage", "when none is left"),
    Family("orphans:*", "work", "nouns whose owner died, waiting for another", "when none is left"),
    Family("sweep:*", "work", "which process of a stage looks for the dead", "lease_seconds"),
    Family("slots", "work", "how many builds each living worker can supervise", "when no worker lives"),
    Family("{queue}:waiting", "work", "builds that wait for a slot", "when none waits"),
    Family("{queue}:running", "work", "builds that have a slot", "when none runs"),
    Family("{queue}:repos", "work", "the virtual time of each repository in the queue", "when none waits or runs"),
    Family("{queue}:version", "cache", "counts changes of the queue", "none; one key"),
    Family("{queue}:limits", "cache", "slots, capacity and cap that were last admitted by", "none; one key"),
    Family(
        "{queue}:abandoned", "work", "builds that nobody waits for, with the time to stop them", "when none is left"
    ),
    Family("{queue}:unstored", "work", "finished builds whose log is not stored yet", "when none is left"),
    Family("{queue}:jobs", "work", "jobs for builder workers (arq's sorted set)", "when none is left"),
    Family("{queue}:jobs:health-check", "work", "arq's own sign of life", "1 h"),
    Family("{seats}:members", "work", "servers that hold a seat", "when none is held"),
    Family("{seats}:held", "work", "how many seats are held, in all and by repository", "when none is held"),
    Family("{seats}:waiting", "work", "servers that wait for a seat", "when none waits"),
    Family("{seats}:asked", "work", "what those who wait for a seat have asked for", "when none waits"),
    Family("seats:counted", "record", "that the hub's servers have been counted", "none; one key"),
    Family("installation", "record", "since when this Redis knows the installation", "none; one key"),
]


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
