"""What exists at a stack (on the hub, as processes, in Redis), and how a test removes what it has started."""

import contextlib
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Protocol

from services.common.redis.families import FAMILIES, Family
from tests.support.polling import eventually
from tests.support.sample_builds import processes_mentioning
from tests.support.stack import Stack


class OnRedis(Protocol):
    """A Bindery whose Redis can be looked into."""

    @property
    def installation(self) -> Mapping[str, Any]:
        """Its `installation_id`, at least."""
        ...

    def redis_keys(self) -> set[str]:
        """Return every key."""
        ...


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Everything at a stack that a launch can leave behind."""

    hub_users: dict[str, list[str]]
    recorded_processes: frozenset[str]
    processes: frozenset[str]
    folders: frozenset[str]
    """Of servers and builds; images stay."""
    keys: frozenset[str]
    """Work in progress only: families that `FAMILIES` calls cache or record are documented to stay."""

    @classmethod
    def of(cls, stack: Stack) -> "Listing":
        return cls(
            hub_users=stack.hub_users(),
            recorded_processes=frozenset(stack.sessions()),
            processes=frozenset(processes_of(stack)),
            folders=frozenset(
                path.name
                for kind in ("servers", "builds")
                for path in (stack.data_dir / kind).glob("*")
                if path.is_dir() and not path.name.startswith(".")
            ),
            keys=work_in_progress(stack),
        )


def work_in_progress(stack: OnRedis) -> frozenset[str]:
    """Return the keys of families that are work.

    Living processes are only counted by service: a process that was paused for longer than its lease, as on a busy
    machine, goes on under another name.
    """
    names = Counter(
        re.sub(r"^(alive:[a-z]+)-.*", r"\1", key) for key in keys_of(stack) if family_of(key).nature == "work"
    )
    return frozenset(f"{name} ({count})" if count > 1 else name for name, count in names.items())


def until_back_to(stack: Stack, before: Listing, seconds: float = 60.0) -> None:
    """Wait until everything is as it was; fail with what was added and what is missing."""
    last = before

    def is_back() -> bool:
        nonlocal last
        last = Listing.of(stack)
        return last == before

    try:
        eventually(is_back, "everything is as it was", seconds)
    except AssertionError as error:
        raise AssertionError(f"{error}: {differences(before, last)}") from None


def differences(before: Listing, after: Listing) -> dict[str, dict[str, list[str]]]:
    """Return by kind what is in one listing and not in the other."""
    by_kind = {}
    for kind in fields(Listing):
        old = set(getattr(before, kind.name))
        new = set(getattr(after, kind.name))
        if old != new:
            by_kind[kind.name] = {"added": sorted(new - old), "missing": sorted(old - new)}
    return by_kind


def processes_of(stack: Stack) -> list[str]:
    """Return the command lines of living processes, besides the stack's parts, that belong to its data folder."""
    mark = str(stack.data_dir)
    if not Path("/proc/self/environ").exists():
        return processes_mentioning([f"{mark}/images", f"{mark}/servers", f"{mark}/builds"])
    own_pids = {*stack.parts().values(), stack.process.pid if stack.process else 0, os.getpid()}
    commands = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            process_text = (folder / "environ").read_bytes() + (folder / "cmdline").read_bytes()
            if mark.encode() in process_text and int(folder.name) not in own_pids:
                commands.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return commands


def keys_of(stack: OnRedis) -> set[str]:
    """Return every key in Redis, without the installation's prefix; arq's own keep theirs."""
    prefix = f"bindery:{stack.installation['installation_id']}:"
    return {key.removeprefix(prefix) for key in stack.redis_keys()}


def family_of(key: str) -> Family:
    """Return the documented family of a key. Fails for a key that no family speaks of."""
    for family in FAMILIES:
        if fnmatchcase(key, family.pattern):
            return family
    raise AssertionError(f"no family in services/common/redis/keys.py speaks of {key!r}")


PROCESSES_OWN = {"alive:*", "processes:*", "sweep:*", "slots", "{queue}:jobs:health-check"}
"""Keys of work in progress that are there as long as processes live."""


def assert_no_work_is_left(stack: OnRedis) -> None:
    """Check that every key is documented, and that of work in progress there are the processes' own alone."""
    families = [family_of(key) for key in keys_of(stack)]  # fails for a key that no family speaks of
    assert {family.pattern for family in families if family.nature == "work"} <= PROCESSES_OWN


def delete_hub_user(stack: Stack, name: str) -> None:
    """Delete a user of the hub with its servers, as the culler does; to be called again while one stops."""
    environ = stack.environment("launcher")
    headers = {"Authorization": f"token {environ['BINDERY_HUB_API_TOKEN']}"}
    stack.client.delete(f"{environ['BINDERY_HUB_API_URL']}users/{name}", headers=headers)


def leave_nothing(stack: Stack) -> None:
    """Delete every hub user, and wait until servers, builds and seats are gone."""
    with contextlib.closing(stack.redis()) as redis:
        prefix = f"bindery:{stack.installation['installation_id']}:"

        def is_empty() -> bool:
            for user in stack.hub_users():
                delete_hub_user(stack, user)
            seats = redis.hlen(prefix + "{seats}:members") + redis.zcard(prefix + "{seats}:waiting")
            builds = redis.hlen(prefix + "{queue}:running") + redis.zcard(prefix + "{queue}:waiting")
            return not (stack.hub_users() or stack.sessions() or seats or builds)

        eventually(is_empty, "nothing of the test is left", 120)
