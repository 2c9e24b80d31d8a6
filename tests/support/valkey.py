"""A real Redis server, its fixtures, and the contexts and members of processes on it."""

import asyncio
import contextlib
import subprocess
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from redis import Redis as SyncRedis
from redis.asyncio import Redis

from deploy.local.health import redis_health
from deploy.local.redis import redis_command, redis_url
from deploy.local.sockets import open_socket_folder, remove_socket_folders, socket_folder
from deploy.redis.users import USERS, redis_user_name, users_file
from services.common.context import ProcessContext, open_context
from services.common.records.leases import ServiceMember
from services.common.service.settings import ServiceSettings
from tests.support.polling import until
from tests.support.settings import settings_for

PASSWORD = "0123456789abcdef"
QUICK = {
    "lease_seconds": 20,
    "lease_renew_seconds": 0.1,
    "sweep_interval_seconds": 0.1,
    "reread_seconds": 0.3,
    "lost_check_seconds": 0.2,
    "redis_patience_seconds": 10,
}
"""Waits of a tenth of the usual length, but a long lease: a busy machine may keep a test still for seconds.

A test of what happens when a lease runs out gives a shorter one.
"""


@dataclass
class Valkey:
    """One server process; it may be killed and started again on its data."""

    data_dir: Path
    socket: Path
    process: subprocess.Popen[bytes] = field(init=False)
    _users: str = field(default_factory=lambda: users_file("bindery:default", dict.fromkeys(USERS, PASSWORD)))

    def start(self) -> None:
        command = redis_command(self.data_dir, self.socket, self._users)
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        asyncio.run(self._until_healthy())

    async def _until_healthy(self) -> None:
        health = redis_health(self.socket, PASSWORD, timeout_seconds=1.0)
        tick = threading.Event()
        async with asyncio.timeout(20):
            while await health():
                await asyncio.to_thread(tick.wait, 0.01)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    async def be_away(self, seconds: float) -> None:
        """Be killed, and start again after some seconds."""
        self.kill()
        await asyncio.sleep(seconds)
        await asyncio.to_thread(self.start)

    @property
    def url(self) -> str:
        """The address for the tests themselves, with all rights."""
        return self.url_of("admin")

    def url_of(self, user: str) -> str:
        """Return the address for a service's user."""
        return redis_url(self.socket, user, PASSWORD)

    def url_in(self, installation_id: str, user: str) -> str:
        """Return the address for a service's user in another installation, which has users of its own from now on.

        A server that is started again still knows them.
        """
        users = users_file(f"bindery:{installation_id}", dict.fromkeys(USERS, PASSWORD), installation_id)
        new_users = [line for line in users.splitlines()[1:] if line not in self._users]
        self._users += "".join(f"{line}\n" for line in new_users)
        with contextlib.closing(SyncRedis.from_url(self.url)) as client:
            for line in new_users:
                client.execute_command("ACL", "SETUSER", *line.split()[1:])
        return self.url.replace(redis_user_name("admin"), redis_user_name(user, installation_id))


@contextlib.contextmanager
def running_valkey(data_dir: Path, users: str = "") -> Iterator[Valkey]:
    """Keep a server there for the length of the block. `users` is the file of its users, whose password is `PASSWORD`.

    Only `health` needs that one.
    """
    folder = socket_folder(data_dir, {})
    open_socket_folder(folder)
    valkey = Valkey(data_dir, folder / "redis.sock", *([users] if users else []))
    valkey.start()
    try:
        yield valkey
    finally:
        valkey.kill()
        remove_socket_folders(data_dir, {})


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """One server for all tests of a run; each empties it."""
    with running_valkey(tmp_path_factory.mktemp("valkey")) as valkey:
        yield valkey


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[Valkey]:
    """A server for one test alone, which may kill it and start it again."""
    folder = tmp_path / "own-valkey"
    folder.mkdir()
    with running_valkey(folder) as valkey:
        yield valkey


@pytest.fixture
async def redis(valkey: Valkey) -> AsyncIterator[Redis]:
    """A client of an empty Redis."""
    async with Redis.from_url(valkey.url) as client:
        await client.flushall()
        yield client


@pytest.fixture
async def context(valkey: Valkey, redis: Redis) -> AsyncIterator[ProcessContext]:
    """What one process of a service holds open, on an empty Redis."""
    async with open_context(service_settings(valkey)) as context:
        yield context


def service_settings(valkey: Valkey, **others: object) -> ServiceSettings:
    return settings_for(ServiceSettings, {"redis_url": valkey.url, "data_dir": valkey.data_dir, **QUICK, **others})


@contextlib.asynccontextmanager
async def another_context(valkey: Valkey, **others: object) -> AsyncIterator[ProcessContext]:
    """Open a second process, as far as Redis can tell."""
    async with open_context(service_settings(valkey, **others)) as context:
        yield context


def member_of(context: ProcessContext, name: str = "gateway") -> ServiceMember:
    """Return a member of a service that does nothing by itself."""
    return ServiceMember(
        name, redis=context.redis, keys=context.keys, records=context.records, settings=context.settings
    )


async def sweeper_of(context: ProcessContext, name: str = "gateway") -> ServiceMember:
    """Return a member that has had its lease for long: to its sweep, a lease that has run out means a death."""
    member = member_of(context, name)
    await member.take_lease()
    trust_leases(member)
    return member


async def sweep_as_another(context: ProcessContext) -> None:
    """Sweep once as a process that was there for long and leaves then: no lease of its own runs out in between."""
    sweeper = await sweeper_of(context)
    await sweeper.sweep_once()
    await sweeper.hand_over()


def trust_leases(member: ServiceMember) -> None:
    """Let a member's next sweep be as one long after it took its lease, without waiting for that."""
    member._sweeper._certain_from = 0.0


async def die(context: ProcessContext, member: ServiceMember) -> None:
    """Leave what a killed process leaves once its lease has run out, without waiting for that."""
    await context.redis.delete(context.keys.alive(member.process))


async def calls(redis: Redis, command: str) -> int:
    """Return how often Redis has run a command, whoever sent it."""
    commands = await redis.info("commandstats")
    return int(commands.get(f"cmdstat_{command}", {}).get("calls", 0))


async def refusals(redis: Redis, code: str) -> int:
    """Return how often Redis has replied with an error of this code."""
    errors = await redis.info("errorstats")
    return int(errors.get(f"errorstat_{code}", {}).get("count", 0))


async def until_repeated(count: Callable[[], Awaitable[int]], *, times: int = 2) -> None:
    """Wait until a count of Redis has grown by `times`: a caller that is kept waiting tries again."""
    before = await count()

    async def has_grown() -> bool:
        return await count() >= before + times

    await until(has_grown, "another attempt")
