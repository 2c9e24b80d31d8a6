"""Every family of keys and channels in Redis: what it means, when it expires, and who may use it.

A new family names the users that read and write it: the rights of each user are made from this table (`users.py`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class RedisUser(StrEnum):
    """A user of Redis: each kind of process has its own."""

    GATEWAY = "gateway"
    RESOLVER = "resolver"
    BUILDER = "builder"
    WORKER = "worker"
    LAUNCHER = "launcher"


class Access(NamedTuple):
    """The users that read keys, and those that write them."""

    reads: frozenset[RedisUser]
    writes: frozenset[RedisUser]


GATEWAY = frozenset({RedisUser.GATEWAY})
RESOLVER = frozenset({RedisUser.RESOLVER})
LAUNCHER = frozenset({RedisUser.LAUNCHER})
BUILDERS = frozenset({RedisUser.BUILDER, RedisUser.WORKER})
"""Both admit builds, hand them to arq and store their logs: the one that sweeps does."""

MEMBERS_OF = {"gateway": GATEWAY, "builder": BUILDERS, "launcher": LAUNCHER}
"""The users of a service's members, by the name of the service."""
MEMBERS = GATEWAY | BUILDERS | LAUNCHER

NOBODY: frozenset[RedisUser] = frozenset()
OF_MEMBERS = Access(MEMBERS, MEMBERS)
OF_GATEWAYS = Access(GATEWAY, GATEWAY)
OF_LAUNCHERS = Access(LAUNCHER, LAUNCHER)
OF_BUILDERS = Access(BUILDERS, BUILDERS)
OF_RESOLVERS = Access(RESOLVER, RESOLVER)
OF_WORKERS = Access(NOBODY, frozenset({RedisUser.WORKER}))
LINKS = Access(GATEWAY, RESOLVER)
RULES = Access(GATEWAY | RESOLVER, RESOLVER)
"""A gateway compares the rules under which a cached link was stored with those in force, as resolvers do their own."""
IMAGES = Access(GATEWAY | BUILDERS, GATEWAY | BUILDERS)
"""A gateway withdraws a cached image that turned out to be missing."""
CREDENTIALS = Access(frozenset({RedisUser.WORKER}), GATEWAY | BUILDERS)
"""A gateway stores them, a worker uses them, and each of them removes them."""
LAUNCHES = Access(GATEWAY | LAUNCHER, GATEWAY)
"""A launcher checks whether the launch of a server has ended."""
SHOWN_BUILDS = Access(GATEWAY | BUILDERS, BUILDERS)
"""A gateway shows a build, with its position in the queue, to its followers."""
SHOWN_SERVERS = Access(GATEWAY | LAUNCHER, LAUNCHER)
SERVERS = Access(GATEWAY | LAUNCHER, GATEWAY | LAUNCHER)
"""A gateway cancels a server in its record, for the time when no launcher is reachable."""


@dataclass(frozen=True)
class Family:
    """Keys of one shape. `pattern` is a Redis glob without the prefix; `nature` is cache, work or record."""

    pattern: str
    nature: str
    access: Access
    meaning: str
    expiry: str

    def granted(self, prefix: str, user: RedisUser) -> Iterator[tuple[str, str]]:
        """Yield what a user may do to these keys: `R`, `W` or `RW`, and a whole pattern."""
        rights = "R" * (user in self.access.reads) + "W" * (user in self.access.writes)
        if rights:
            yield rights, f"{prefix}:{self.pattern}"


@dataclass(frozen=True)
class MembersFamily(Family):
    """Keys of which each service has its own, used by its members only."""

    own: str
    """Pattern of one service's keys, with `{}` for its name."""
    watched: tuple[tuple[RedisUser, str], ...] = ()
    """Other users that read keys, each with the name of the service that has them."""

    def granted(self, prefix: str, user: RedisUser) -> Iterator[tuple[str, str]]:
        """Yield what a user may do to the keys of each service."""
        for name, members in MEMBERS_OF.items():
            if user in members:
                yield "RW", f"{prefix}:{self.own.format(name)}"
            elif (user, name) in self.watched:
                yield "R", f"{prefix}:{self.own.format(name)}"


@dataclass(frozen=True)
class ArqFamily(Family):
    """Keys whose beginning arq chooses; `{prefix}` stands for ours, in the name of a job."""

    def granted(self, prefix: str, user: RedisUser) -> Iterator[tuple[str, str]]:
        """Yield what a user may do to these keys, under arq's name for them."""
        for rights, _ in super().granted(prefix, user):
            yield rights, self.pattern.format(prefix=prefix)


FAMILIES = [
    Family(
        "{b:*}:record",
        "record",
        SHOWN_BUILDS,
        "a build: state, owner, epoch, position in the engine's output",
        "record_ttl_seconds after its end",
    ),
    Family(
        "{b:*}:events",
        "work",
        SHOWN_BUILDS,
        "a build's lines and events",
        "10 min after its end, once the log is stored",
    ),
    Family("{b:*}:waiters", "work", OF_BUILDERS, "the launches that wait for a build", "with the build's end"),
    Family(
        "{b:*}:log",
        "record",
        SHOWN_BUILDS,
        "a finished build's log, compressed",
        "log_ttl_seconds, or when log_total_max_bytes are reached",
    ),
    Family("{l:*}:record", "record", LAUNCHES, "a launch", "record_ttl_seconds after its end"),
    Family("{l:*}:events", "record", OF_GATEWAYS, "a launch's events", "record_ttl_seconds after its end"),
    Family("{s:*}:record", "record", SERVERS, "a server", "record_ttl_seconds after its end"),
    Family("{s:*}:events", "record", SHOWN_SERVERS, "a server's progress", "record_ttl_seconds after its end"),
    Family(
        "{i:*}:attempt",
        "record",
        OF_BUILDERS,
        "the number of an image's current attempt",
        "30 days after the last attempt",
    ),
    Family("logs", "record", OF_BUILDERS, "the logs in Redis, by age and size", "none; shrinks as logs go"),
    Family("logs:sizes", "record", OF_BUILDERS, "the size of each log in Redis", "none; shrinks as logs go"),
    Family(
        "flight:*",
        "work",
        OF_RESOLVERS,
        "a link that a resolver resolves at the moment, and for a moment its answer",
        "resolve_share_seconds",
    ),
    Family(
        "answer:*",
        "cache",
        OF_RESOLVERS,
        "what a link of a public repository means, or that nothing is there",
        "fact_ttl_seconds, stale_answer_seconds or not_found_cache_seconds",
    ),
    Family(
        "credential:*",
        "work",
        CREDENTIALS,
        "a credential for the repository of one launch, encrypted",
        "with its build or launch; credentials_ttl_seconds",
    ),
    Family("idempotency:*", "record", OF_GATEWAYS, "which launch an Idempotency-Key started", "24 h"),
    Family("fact:repo:*", "cache", LINKS, "the commit that a link means, if that cannot change", "fact_ttl_seconds"),
    Family(
        "fact:built:*",
        "cache",
        IMAGES,
        "an image in the registry, by what it is made from, and by its link",
        "fact_ttl_seconds",
    ),
    Family("policy:resolver", "cache", RULES, "which bans and allowances are in force: an id", "none; one key"),
    Family("policy:live", "record", OF_RESOLVERS, "the live rules that operators have added", "none; one key"),
    Family("policy:audit", "record", OF_RESOLVERS, "the last changes of the live rules", "policy_audit_max entries"),
    Family(
        "policy:images",
        "cache",
        SHOWN_BUILDS,
        "where the builder stores images: prefix, registry, executor",
        "none; one key",
    ),
    MembersFamily(
        "alive:*",
        "work",
        OF_MEMBERS,
        "that a process is alive",
        "lease_seconds",
        own="alive:{}-*",
        watched=((RedisUser.GATEWAY, "builder"),),  # places in the queue depend on which workers live
    ),
    MembersFamily("owned:*", "work", OF_MEMBERS, "what a process owns", "when it owns nothing", own="owned:{}-*"),
    MembersFamily(
        "processes:*", "work", OF_MEMBERS, "the processes of a service", "when none is left", own="processes:{}"
    ),
    MembersFamily(
        "orphans:*",
        "work",
        OF_MEMBERS,
        "records whose owner died, waiting for another",
        "when none is left",
        own="orphans:{}",
    ),
    MembersFamily(
        "sweep:*",
        "work",
        OF_MEMBERS,
        "which process of a service looks for dead processes",
        "lease_seconds",
        own="sweep:{}",
    ),
    Family("slots", "work", SHOWN_BUILDS, "how many builds each living worker can supervise", "when no worker lives"),
    Family("{queue}:waiting", "work", SHOWN_BUILDS, "builds that wait for a slot", "when none waits"),
    Family("{queue}:running", "work", SHOWN_BUILDS, "builds that have a slot", "when none runs"),
    Family(
        "{queue}:repos",
        "work",
        OF_BUILDERS,
        "the virtual time of each repository in the queue",
        "when none waits or runs",
    ),
    Family("{queue}:version", "cache", SHOWN_BUILDS, "a counter of changes of the queue", "none; one key"),
    Family(
        "{queue}:limits", "cache", SHOWN_BUILDS, "the slots, capacity and cap of the last admission", "none; one key"
    ),
    Family(
        "{queue}:abandoned",
        "work",
        OF_BUILDERS,
        "builds that nobody waits for, with the time to stop them",
        "when none is left",
    ),
    Family("{queue}:unstored", "work", OF_BUILDERS, "finished builds whose log is not stored yet", "when none is left"),
    Family(
        "builds:relisted",
        "cache",
        OF_BUILDERS,
        "that executions were compared with the records lately",
        "relist_seconds",
    ),
    Family("{queue}:jobs", "work", OF_BUILDERS, "jobs for builder workers (arq's sorted set)", "when none is left"),
    Family("{queue}:jobs:health-check", "work", OF_WORKERS, "arq's own sign of life", "1 h"),
    Family("{seats}:members", "work", OF_LAUNCHERS, "servers that hold a seat", "when none is held"),
    Family(
        "{seats}:held", "work", OF_LAUNCHERS, "how many seats are held, in all and by repository", "when none is held"
    ),
    Family("{seats}:waiting", "work", OF_LAUNCHERS, "servers that wait for a seat", "when none waits"),
    Family("{seats}:asked", "work", OF_LAUNCHERS, "the requests of servers that wait for a seat", "when none waits"),
    Family("seats:counted", "record", OF_LAUNCHERS, "that the hub's servers have been counted", "none; one key"),
    Family(
        "installation",
        "record",
        OF_LAUNCHERS,
        "the time since which this Redis knows the installation",
        "none; one key",
    ),
]

ARQ_FAMILIES = [
    ArqFamily("arq:job:{prefix}:*", "work", OF_BUILDERS, "a job, as JSON", "with the job's end, or after a day"),
    ArqFamily("arq:in-progress:{prefix}:*", "work", OF_BUILDERS, "that a worker has a job", "with the job's end"),
    ArqFamily("arq:retry:{prefix}:*", "work", OF_BUILDERS, "how often a job was begun", "with the job's end"),
    ArqFamily("arq:result:{prefix}:*", "work", OF_BUILDERS, "the result of a job: none is kept", "at once"),
    ArqFamily("arq:abort", "work", OF_WORKERS, "jobs to abort: there are none", "at once"),
]


class Channel(NamedTuple):
    """Channels of one shape. Redis has no separate rights to publish and to subscribe."""

    pattern: str
    users: frozenset[RedisUser]
    meaning: str


CHANNELS = [
    Channel("{b:*}:news", GATEWAY | BUILDERS, "entries of a build's stream"),
    Channel("{l:*}:news", GATEWAY, "entries of a launch's stream"),
    Channel("{s:*}:news", GATEWAY | LAUNCHER, "entries of a server's stream"),
    Channel(
        "{bus:*}:news", MEMBERS | RESOLVER, "a process's messages to itself, which prove that its subscription lives"
    ),
    Channel("{queue}:version", GATEWAY | BUILDERS, "that the build queue has changed"),
    Channel("policy:news", GATEWAY | RESOLVER, "the version of a new live policy"),
    Channel("wake:gateway", GATEWAY, "orphans, and launches to cancel"),
    Channel("wake:builder", BUILDERS, "orphans, builds to admit or to cancel, and slots that are free"),
    Channel("wake:launcher", GATEWAY | LAUNCHER, "orphans, starts to cancel, seats that are free, and new launchers"),
]
