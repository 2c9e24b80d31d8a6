"""Three real Redis servers behind three real Sentinels, configured as docs/redis.md says."""

import contextlib
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from redis import Redis as SyncRedis
from redis.exceptions import RedisError, ResponseError

from deploy.local.redis import redis_binary
from deploy.redis.users import USERS, redis_user_name, users_file
from tests.support.paths import CHECKOUT
from tests.support.polling import eventually
from tests.support.ports import free_ports
from tests.support.valkey import PASSWORD

SENTINEL_PASSWORD = "a password of Sentinel's own"
SENTINEL_USER = "asks"
"""A user of the Sentinels with the one right that the docs name."""
MASTER = "mymaster"


def documented(title: str) -> list[str]:
    """Return the lines of an example file in docs/redis.md, by its first line."""
    page = (CHECKOUT / "docs" / "redis.md").read_text()
    (example,) = re.findall(rf"```text\n# {re.escape(title)}\n(.*?)```", page, re.DOTALL)
    return [line for line in example.splitlines() if not line.startswith("#")]


def with_values(lines: list[str], values: Mapping[str, str]) -> list[str]:
    """Return lines of a configuration with other values for some directives. Raise `KeyError` for one it lacks."""
    missing = [name for name in values if not any(line.startswith(f"{name} ") for line in lines)]
    if missing:
        raise KeyError(f"docs/redis.md has no {missing}")
    return [
        next((f"{name} {value}" for name, value in values.items() if line.startswith(f"{name} ")), line)
        for line in lines
    ]


@dataclass(kw_only=True)
class Server:
    """One process: a Redis, or a Sentinel."""

    folder: Path
    port: int
    public_port: int
    arguments: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self) -> None:
        config = next(self.folder.glob("*.conf"))
        with (self.folder / "output").open("ab") as output:
            command = [str(redis_binary()), str(config), *self.arguments]
            self.process = subprocess.Popen(command, cwd=self.folder, stdout=output, stderr=output)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        """SIGSTOP."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)


class SentinelCluster:
    """Three servers, of which one is the master, and three Sentinels.

    `host` and `public_ports` are where clients, and the servers among themselves, reach the servers (a relay, perhaps),
    and `settings` have other values for directives of each server. `users` is the content of the file of Redis' users.
    """

    def __init__(
        self,
        folder: Path,
        *,
        users: str = "",
        admin_password: str = PASSWORD,
        settings: Mapping[str, str] | None = None,
        sentinel_settings: Mapping[str, str] | None = None,
        public_ports: Mapping[int, int] | None = None,
        ports: tuple[int, ...] = (),
        host: str = "127.0.0.1",
    ) -> None:
        self.folder = folder
        self._host = host
        self._users = users or users_file("bindery:default", dict.fromkeys(USERS, PASSWORD))
        self._admin_password = admin_password
        self._settings = dict(settings or {})
        self._sentinel_settings = dict(sentinel_settings or {})
        ports = ports or tuple(free_ports(6, set()))
        public = dict(public_ports or {})
        self.servers = [
            Server(folder=folder / f"server-{number}", port=port, public_port=public.get(port, port))
            for number, port in enumerate(ports[:3])
        ]
        self.sentinels = [
            Server(
                folder=folder / f"sentinel-{number}", port=port, public_port=public.get(port, port),
                arguments=("--sentinel",),
            )
            for number, port in enumerate(ports[3:])
        ]  # fmt: skip

    def start(self) -> None:
        """Start all, and wait until each Sentinel knows the others and both replicas."""
        users = self._users.splitlines() + documented("users.acl")
        for server in self.servers:
            server.folder.mkdir(parents=True)
            (server.folder / "users.acl").write_text("".join(f"{line}\n" for line in users))
            self._configure(server)
            server.start()
        for sentinel in self.sentinels:
            sentinel.folder.mkdir(parents=True)
            self._configure_sentinel(sentinel)
            sentinel.start()
        eventually(self.is_complete, "three servers and three Sentinels that know each other", 30)

    def _configure(self, server: Server) -> None:
        values = {
            "port": str(server.port),
            "aclfile": f'"{server.folder / "users.acl"}"',
            "dir": f'"{server.folder}"',
            "masterauth": "password-of-replicas",
        }
        lines = with_values(documented("valkey.conf"), values | self._settings)
        lines += [self._bind, "loglevel notice", f"replica-announce-port {server.public_port}"]
        lines += [f"replica-announce-ip {self._host}"]
        if server is not self.servers[0]:
            lines.append(f"replicaof {self._host} {self.servers[0].public_port}")
        (server.folder / "valkey.conf").write_text("".join(f"{line}\n" for line in lines))

    def _configure_sentinel(self, sentinel: Server) -> None:
        quoted = f'"{SENTINEL_PASSWORD}"'
        values = {
            "port": str(sentinel.port),
            "requirepass": quoted,
            "sentinel sentinel-pass": quoted,
            f"sentinel monitor {MASTER}": f"{self._host} {self.servers[0].public_port} 2",
            f"sentinel auth-pass {MASTER}": "password-of-sentinels",
        }
        lines = with_values(documented("sentinel.conf"), values | self._sentinel_settings)
        lines += [self._bind, f'dir "{sentinel.folder}"', f"sentinel announce-port {sentinel.public_port}"]
        lines += [
            f"sentinel announce-ip {self._host}",
            f"user {SENTINEL_USER} on >asks-password -@all +sentinel|master",
        ]
        (sentinel.folder / "sentinel.conf").write_text("".join(f"{line}\n" for line in lines))

    @property
    def _bind(self) -> str:
        return " ".join(["bind", *dict.fromkeys(["127.0.0.1", self._host])])

    def is_complete(self) -> bool:
        """Return whether the Sentinels know each other and two replicas, and the master takes writes."""
        states = [self.state(sentinel) for sentinel in self.sentinels]
        if not all(state and (state["num-slaves"], state["num-other-sentinels"]) == (2, 2) for state in states):
            return False
        with contextlib.closing(self.admin(self.master)) as admin, contextlib.suppress(RedisError):
            return int(admin.info("replication")["min_slaves_good_slaves"]) == 2
        return False

    # What there is

    def state(self, sentinel: Server) -> dict[str, Any] | None:
        """Return what a Sentinel says of the master; None if it does not answer."""
        with contextlib.closing(self.ask(sentinel)) as client:
            try:
                state: dict[str, Any] = client.sentinel_master(MASTER)
            except RedisError:
                return None
            return state

    @property
    def master(self) -> Server:
        """The server that the first Sentinel that answers calls the master."""
        state = next(state for sentinel in self.sentinels if (state := self.state(sentinel)))
        return next(server for server in self.servers if server.public_port == state["port"])

    def until_moved(self, before: Server, seconds: float = 30.0) -> Server:
        """Wait until every Sentinel names another master, and return it."""

        def has_moved() -> bool:
            ports = {(self.state(sentinel) or {}).get("port") for sentinel in self.sentinels}
            return len(ports) == 1 and ports != {before.public_port}

        eventually(has_moved, "a failover", seconds)
        return self.master

    def fail_over(self) -> Server:
        """Let the Sentinels choose another master, again if they give that up, and return it."""
        before = self.master

        def is_accepted() -> bool:
            with contextlib.closing(self.ask(self.sentinels[0])) as client, contextlib.suppress(ResponseError):
                return bool(client.execute_command("SENTINEL FAILOVER", MASTER))
            return False

        eventually(is_accepted, "a failover that is accepted: a replica must be good enough")
        try:
            return self.until_moved(before, 15)
        except AssertionError:
            eventually(is_accepted, "a second failover that is accepted")
            return self.until_moved(before)

    def admin(self, server: Server) -> "SyncRedis":
        """Return a client of one server that may do everything; the caller closes it."""
        return self._client(server.port, username=redis_user_name("admin"), password=self._admin_password)

    def ask(self, sentinel: Server) -> "SyncRedis":
        """Return a client of one Sentinel; the caller closes it."""
        return self._client(sentinel.port, password=SENTINEL_PASSWORD)

    def _client(self, port: int, **login: str) -> "SyncRedis":
        return SyncRedis(host="127.0.0.1", port=port, socket_timeout=2, socket_connect_timeout=2, **login)

    def url_of(self, user: str, *, scheme: str = "redis+sentinel", query: str = "") -> str:
        """Return BINDERY_REDIS_URL for a service's user."""
        return f"{scheme}://{redis_user_name(user)}:{quote(PASSWORD)}@{self.place}{query}"

    @property
    def place(self) -> str:
        """What comes after the @ of a URL: the Sentinels, the master's name and the database."""
        sentinels = ",".join(f"{self._host}:{sentinel.public_port}" for sentinel in self.sentinels)
        return f"{sentinels}/{MASTER}/0"


@contextlib.contextmanager
def running_cluster(folder: Path, **options: Any) -> Iterator[SentinelCluster]:
    cluster = SentinelCluster(folder, **options)
    try:
        cluster.start()
        yield cluster
    finally:
        for server in (*cluster.sentinels, *cluster.servers):
            if hasattr(server, "process"):
                server.kill()
