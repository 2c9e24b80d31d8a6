"""Two of each part on one Redis, with a stub hub whose servers take a while to start."""

import asyncio
import contextlib
import json
import subprocess
from collections.abc import Iterable
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import quote

import redis.asyncio as redis

from deploy.local.components import Component, component_name
from deploy.local.health import socket_health
from services.common.redis.families import FAMILIES
from tests.load.client import fetch
from tests.load.stack import LoadStack
from tests.load.switch import Switch

REPLICATED = ("resolver", "builder", "launcher")
"""Services that `make up` starts once; here a switch stands before two of each."""
PAIRS = (*REPLICATED, "worker", "gateway")

POOL_CONNECTIONS = 16
"""Connections to Redis in the pool of each process: few, so that it is full after the first stop of Redis."""
FORGOTTEN_SECONDS = 25
"""What is remembered of what has ended is gone after that, so that what is left at a sample is left for ever."""

LIVING = {"alive:*", "processes:*", "sweep:*", "slots", "{queue}:jobs:health-check", "{b:*}:events"}
"""Keys of work that processes at rest have, and the streams of builds that ended a short while ago."""
RENEWED = {"alive:*", "sweep:*", "{queue}:jobs:health-check", "builds:relisted"}
"""Keys with an expiry that are written again as long as processes live."""

STOPPED_SECONDS_MAX = 10.0
"""Longest time for which a part stands still. A gateway's followers are followers of nobody meanwhile."""

SETTINGS = {
    "build_slots": "3",
    "abandoned_seconds": str(STOPPED_SECONDS_MAX + 5),
    "build_cancel_grace_seconds": "2",
    "reap_interval_seconds": "5",
    "reap_disarmed_seconds": "10",
    "redis_max_connections": str(POOL_CONNECTIONS),
    "record_ttl_seconds": str(FORGOTTEN_SECONDS),
    "log_ttl_seconds": str(FORGOTTEN_SECONDS),
    "finished_stream_seconds": "15",
    "attempt_ttl_seconds": str(FORGOTTEN_SECONDS),
    "idempotency_ttl_seconds": str(FORGOTTEN_SECONDS),
    "fact_ttl_seconds": str(FORGOTTEN_SECONDS),
    "images_max_bytes": str(64 * 2**20),
    "images_grace_seconds": "60",
}


class SoakStack(LoadStack):
    """The parts of `make up`, two of each kind but Redis; a part that is ended is started again by hand."""

    stub_hub_arguments = ("--ready-after", "0.7")

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, gateways=2, workers=2, **SETTINGS)
        self._switches = contextlib.AsyncExitStack()
        self.starting: set[str] = set()
        """Parts that are down, or not well yet after a new start."""

    async def _planned(self, components: Iterable[Component]) -> Iterable[Component]:
        planned: list[Component] = []
        for component in components:
            if component.kind in REPLICATED:
                replicas = self._replicas(component)
                planned += replicas
                sockets = [Path(replica.environment["BINDERY_LISTEN_SOCKET"]) for replica in replicas]
                address = Path(component.environment["BINDERY_LISTEN_SOCKET"])
                await self._switches.enter_async_context(Switch(sockets).listening(address))
            else:
                planned.append(component)
        return planned

    def _replicas(self, component: Component) -> list[Component]:
        address = Path(component.environment["BINDERY_LISTEN_SOCKET"])
        replicas: list[Component] = []
        for number in (1, 2):
            name = component_name(component.kind, number)
            socket = address.with_name(f"{component.kind}-of-{number}.sock")
            environment = dict(component.environment) | {"BINDERY_LISTEN_SOCKET": str(socket)}
            health = socket_health(socket, 2.0, environment["BINDERY_SERVICE_TOKEN"])
            replicas.append(replace(component, name=name, environment=environment, health=health))
        return replicas

    async def stop(self) -> None:
        """End everything."""
        await self._switches.aclose()
        await super().stop()

    # Parts

    async def start_again(self, name: str) -> None:
        """Start a part that has ended, and wait until it is well."""
        process = self.processes[name]
        if process.poll() is None:
            try:
                await asyncio.to_thread(process.wait, 30)
            except subprocess.TimeoutExpired:
                raise RuntimeError(f"{name} does not end by SIGTERM") from None
        self._spawn_part(self.parts[name])
        await self._until_well(self.parts[name])

    def ended(self) -> list[str]:
        """Return the parts that have ended though nobody ended them."""
        return [
            f"{name} ({self.processes[name].returncode})"
            for name in self.ours()
            if name not in self.starting and self.processes[name].poll() is not None
        ]

    # What there is

    def redis(self) -> "redis.Redis":
        """Return a client that may do everything."""
        return redis.Redis.from_url(self.redis_url)

    def quoted(self, name: str, forge: str = "") -> str:
        """Return the address of a repository as a spec of the provider git begins with it."""
        return quote(f"{forge or self.forge}/{name}", safe="")

    @property
    def prefix(self) -> str:
        """Beginning of every key."""
        environment = self.parts["gateway"].environment
        return f"{environment['BINDERY_REDIS_PREFIX']}:{environment['BINDERY_INSTALLATION_ID']}:"

    async def unfinished(self) -> list[str]:
        """Return the launches and builds that go on."""
        async with self.redis() as client:
            keys = [key async for key in client.scan_iter(f"{self.prefix}{{[bl]:*}}:record")]
            return [key.decode() for key in keys if not await client.hget(key, "final")]

    async def keys_of_work(self) -> list[str]:
        """Return the keys of work in progress, but for those that are there as long as processes live."""
        async with self.redis() as client:
            names = [key.decode().removeprefix(self.prefix) async for key in client.scan_iter("*")]
        work = [family.pattern for family in FAMILIES if family.nature == "work" and family.pattern not in LIVING]
        work.append("arq:*")
        return [name for name in names if any(fnmatchcase(name, pattern) for pattern in work)]

    async def remembered(self) -> list[str]:
        """Return the keys that are about to expire, but for those that are renewed."""
        async with self.redis() as client:
            names = [key.decode() async for key in client.scan_iter("*")]
            names = [name for name in names if 0 <= await client.ttl(name) <= FORGOTTEN_SECONDS]
        names = [name.removeprefix(self.prefix) for name in names]
        return [name for name in names if not any(fnmatchcase(name, pattern) for pattern in RENEWED)]

    async def hub_users(self) -> dict[str, dict[str, Any]]:
        """Return the users of the hub, with their servers."""
        _, body = await fetch(self.hub, "GET", "/all-users")
        users: dict[str, dict[str, Any]] = json.loads(body)
        return users

    async def hub_starts(self) -> dict[str, int]:
        """Return how often a server was started for each user that there ever was."""
        _, body = await fetch(self.hub, "GET", "/starts")
        starts: dict[str, int] = json.loads(body)
        return starts

    async def remove_user(self, user: str) -> None:
        """Remove a user from the hub with its server, as the culler does."""
        await fetch(self.hub, "DELETE", f"/users/{user}")

    def sessions(self) -> list[str]:
        """Return the builds whose processes run."""
        return [path.stem for path in (self.data / "run" / "processes").glob("*.json")]
