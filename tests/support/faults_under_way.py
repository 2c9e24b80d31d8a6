"""Launches at every stage while something fails, and what must be true of them afterwards."""

import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

from tests.support.faults import Faults, SlowRepo
from tests.support.launching import Following
from tests.support.polling import eventually

MEMBERS = ("gateway", "builder", "worker", "launcher")
"""The kinds of parts that hold leases."""
SERVICES = (*MEMBERS, "resolver")
_HUB_CALL = re.compile(r"\b20\d (POST|DELETE) (/hub/api/users/\S+?)[ ?]")
_OWNED = ("owner", "epoch", "claim")


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What a fault must not change: who owns what, and which processes there are."""

    owners: dict[str, tuple[str, ...]]
    """Owner, epoch and claim of each record that has not ended."""
    pids: dict[str, int]


class LaunchesUnderWay:
    """One launch whose build runs and prints, one whose server starts, one whose build is silent and is cancelled.

    During a fault two more are requested: one whose image is there, and one that has to be built.
    """

    def __init__(self, faults: Faults, warm: SlowRepo) -> None:
        self.faults = faults
        self._warm_repo = warm
        self._users_before = set(faults.stack.hub_users())
        self._building_repo = faults.slow_repo()
        self._starting_repo = faults.slow_repo(holds_build=False, holds_server=True)
        self._silent_repo = faults.slow_repo(is_silent=True)
        self._cold_repo = faults.slow_repo(holds_build=False)

        self.building, self.cancelled, self.starting = (
            faults.stack.facade(repo.url, repo.sha)
            for repo in (self._building_repo, self._silent_repo, self._starting_repo)
        )
        for following in (self.building, self.cancelled):
            faults.until_build_is_under_way(following)
        self._starting_repo.until_server_starts()
        eventually(lambda: len(self.snapshot().owners) >= 6, "an owner of each launch, build and server")
        self.before = self.snapshot()
        self.requested: list[Following] = []

    # Before and during the fault

    def snapshot(self) -> Snapshot:
        """Return who owns what at the moment."""
        prefix = self.faults.prefix
        owners: dict[str, tuple[str, ...]] = {}
        with closing(self.faults.stack.redis()) as redis:
            for key in redis.keys(f"{prefix}:{{[bls]:*}}:record"):
                values = redis.hmget(key, "final", *_OWNED)
                if values[0] is None and values[1]:
                    owners[key.decode()] = tuple((value or b"").decode() for value in values[1:])
        return Snapshot(owners=owners, pids=self.faults.stack.parts())

    def request_more(self) -> None:
        """Launch a link whose image is there, and one that has to be built."""
        for repo in (self._warm_repo, self._cold_repo):
            self.requested.append(self.faults.stack.facade(repo.url, repo.sha))

    def until_requested_goes_on(self, seconds: float = 15.0) -> None:
        """Wait until a launch that was requested during the fault is told something: Redis is back for all."""
        eventually(lambda: all(len(one.events) > 1 for one in self.requested), "news of the new launches", seconds)

    @contextmanager
    def bounded(self, seconds: float) -> Iterator[None]:
        """Fail if the block takes longer."""
        started_at = time.monotonic()
        yield
        took = time.monotonic() - started_at
        print(f"after the fault: {took:.1f} s")
        assert took <= seconds, f"{took:.1f} s, and {seconds:g} s are allowed"

    def until_a_lease_is_due(self, milliseconds: int) -> None:
        """Wait until the lease of some process is about to be renewed: it lasts for less than this."""
        eventually(lambda: min(_leases(self.faults).values()) < milliseconds, "a lease that is due", 10)

    def start_server(self) -> None:
        """Let the server start whose start is under way."""
        self._starting_repo.start_server()

    # After it

    def assert_no_owner_changed(self) -> None:
        """Check that every record of before has its owner, in the same epoch, and that no process has ended."""
        after = self.snapshot()
        changed = {key: (was, after.owners.get(key)) for key, was in self.before.owners.items()}
        changed = {key: pair for key, pair in changed.items() if pair[0] != pair[1]}
        assert not changed, f"changed owners: {changed}"
        assert after.pids == self.before.pids, "a process has ended"

    def finish(self, *, seconds: float = 30.0) -> None:
        """Let everything end, and check that each launch ends as its user expects, within `seconds`."""
        with self.bounded(seconds):
            self._cancel(self.cancelled.launch_id)
            outcome = self.cancelled.outcome(seconds)
            assert outcome.get("code") == "cancelled", outcome
            self._building_repo.end_build()
            self._starting_repo.start_server()
            for following in (self.building, self.starting, *self.requested):
                self.faults.assert_server_answers(following.outcome(seconds))

        self.assert_every_line_once(self.building)
        self._assert_nothing_twice()

    def assert_every_line_once(self, following: Following) -> None:
        """Check what a follower of the launch that was built has been told."""
        assert self._building_repo.assert_every_line_once(following) > 20

    def assert_hub_called_once(self) -> None:
        """Check that no call for a user was made twice at the hub: a call may be repeated only by another owner."""
        calls = Counter(
            (method, path)
            for method, path in _HUB_CALL.findall(self.faults.stack.part_log("hub"))
            if self._is_new(path.split("/")[4])
        )
        assert calls, "no call in the hub's log"
        assert set(calls.values()) == {1}, f"twice at the hub: {calls}"

    def _cancel(self, launch_id: str) -> None:
        stack = self.faults.stack
        reply = stack.client.delete(f"{stack.url}/api/v1/launches/{launch_id}")
        assert reply.status_code == 202, reply.text

    def _assert_nothing_twice(self) -> None:
        built = [self._building_repo, self._starting_repo, *([self._cold_repo] if self.requested else [])]
        for repo in built:
            assert len(self.faults.build_ids(repo)) == 1
            assert repo.fetches == 1

        users = {name: servers for name, servers in self.faults.stack.hub_users().items() if self._is_new(name)}
        ready = 2 + len(self.requested)
        assert [len(servers) for servers in users.values()] == [1] * ready, users
        assert self._starting_repo.server_starts == 1

    def _is_new(self, user: str) -> bool:
        return user not in self._users_before


def epochs(faults: Faults) -> dict[str, str]:
    """Return the epoch of every record, also of those that have ended: it grows with each change of owner."""
    with closing(faults.stack.redis()) as redis:
        keys = redis.keys(f"{faults.prefix}:{{[bls]:*}}:record")
        return {key.decode(): (redis.hget(key, "epoch") or b"").decode() for key in keys}


def assert_no_zombie(faults: Faults) -> None:
    """Check that every process lives and all its loops do.

    It is healthy; it renews its lease, and no process that is gone has one; there is a sweeper of each service.
    """
    parts = faults.stack.parts()
    services = [name for name in parts if name.partition("-")[0] in SERVICES]
    eventually(lambda: all(_is_healthy(faults, name) for name in services), "the health of each service", 20)

    expected = {pid for name, pid in parts.items() if name.partition("-")[0] in MEMBERS}
    eventually(lambda: set(_leases(faults)) == expected, f"a lease of each of {parts}, and of no other", 20)
    until_renewed(faults, expected)

    sweeps = {f"{faults.prefix}:sweep:{service}" for service in ("gateway", "builder", "launcher")}
    eventually(lambda: sweeps <= faults.stack.redis_keys(), "a sweeper of each service", 15)


def until_renewed(faults: Faults, pids: set[int]) -> None:
    """Wait until each of these processes has renewed its lease: at a look, it lasts for longer than at the one before.

    They do so at different times, and none of them has to do it just before the others are looked at.
    """
    missing = set(pids)
    before = _leases(faults)

    def have_renewed() -> bool:
        nonlocal before
        now = _leases(faults)
        missing.difference_update(pid for pid, left in now.items() if left > before.get(pid, left))
        before = now
        return not missing

    eventually(have_renewed, "renewed leases", 10)


def _is_healthy(faults: Faults, part: str) -> bool:
    with faults.stack.part_client(part) as client:
        reply: Any = client.get("/health")
    return bool(reply.status_code == 200)


def _leases(faults: Faults) -> dict[int, int]:
    """Return the milliseconds that the lease of each process is good for, by its pid."""
    leases: dict[int, int] = {}
    with closing(faults.stack.redis()) as redis:
        for service in ("gateway", "builder", "launcher"):
            for process in redis.smembers(f"{faults.prefix}:processes:{service}"):
                pid = int(process.decode().rsplit("-", 2)[1])
                leases[pid] = max(leases.get(pid, -2), redis.pttl(f"{faults.prefix}:alive:{process.decode()}"))
    return leases
