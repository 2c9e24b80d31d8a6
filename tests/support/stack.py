"""A whole stack, started by `bindery up` in a process of its own, and what tests ask of it."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import httpx
import redis

from deploy.local.sockets import socket_folder
from tests.support.launching import START_TOKENS, Launching
from tests.support.paths import CHECKOUT
from tests.support.polling import eventually


def free_ports(count: int = 1) -> int:
    """Return the first of `count` neighbouring ports that are free, below the ephemeral range."""
    for first in range(18_000 + os.getpid() % 1000, 31_000, 7):
        with contextlib.ExitStack() as stack:
            try:
                for port in range(first, first + count):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
        return first
    raise AssertionError("no free port")


class Stack(Launching):
    """`bindery up` with a data folder and ports of its own. Settings are `BINDERY_<NAME>`, in lower case here."""

    program: tuple[str, ...] = ("-m", "bindery", "up")

    def __init__(self, data_dir: Path, **settings: object) -> None:
        self.data_dir = data_dir
        self.gateways = int(str(settings.get("gateways", 1)))
        self.port = free_ports(self.gateways)
        self.settings = {"allowed_networks": "127.0.0.0/8", "log_level": "info"} | settings
        self.process: subprocess.Popen[bytes] | None = None
        self.output = data_dir.parent / f"{data_dir.name}.up.log"
        self._log_start = 0
        token = data_dir / "run" / "start-token"
        START_TOKENS.update(dict.fromkeys(range(self.port, self.port + self.gateways), token))
        super().__init__()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def gateway_url(self, number: int) -> str:
        return f"http://127.0.0.1:{self.port + number}"

    @property
    def start_token(self) -> str:
        """What the running `up` has printed with its address."""
        return (self.data_dir / "run" / "start-token").read_text()

    def start(self) -> Self:
        """Start `up`, and wait until it is ready."""
        self.spawn()
        self.until_ready()
        return self

    def spawn(self, *options: str) -> None:
        """Start `up` with these options."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith("BINDERY_")}
        variables = {f"BINDERY_{name.upper()}": str(value) for name, value in self.settings.items()}
        environ |= variables | {"BINDERY_DATA_DIR": str(self.data_dir), "BINDERY_PORT": str(self.port)}
        with self.output.open("ab") as output:
            self._log_start = output.tell()
            self.process = subprocess.Popen(
                [sys.executable, *self.program, *options], cwd=CHECKOUT, env=environ, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def until_ready(self) -> None:
        """Wait until `up` says that it is ready."""
        eventually(self._is_ready, f"bindery up; {self.log()[-3000:]}", 120)

    def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"bindery up ended: {self.log()[-3000:]}"
        return f"Bindery is ready: {self.url}" in self.log()

    def log(self) -> str:
        """Return the output of `up` since it was last started."""
        return self.output.read_bytes()[self._log_start :].decode(errors="replace") if self.output.exists() else ""

    def part_log(self, part: str) -> str:
        """Return what a part has logged so far."""
        return "".join(path.read_text(errors="replace") for path in (self.data_dir / "logs").glob(f"{part}.log*"))

    def end(self, number: signal.Signals) -> None:
        """End `up` by a signal, and wait for that; it may be started again."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(60)

    def stop(self) -> None:
        self.client.close()
        self.end(signal.SIGTERM)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None and self.process and self.process.poll() is None:
                assert self.refused_by_redis() == []
        finally:
            self.stop()

    # What runs

    def parts(self) -> dict[str, int]:
        """Return every part's pid, by name."""
        record = json.loads((self.data_dir / "run" / "up.json").read_text())
        return {name: int(part["pid"]) for name, part in record["parts"].items()}

    def signal(self, part: str, number: signal.Signals) -> int:
        """Send a signal to a part's process; returns its pid."""
        pid = self.parts()[part]
        os.kill(pid, number)
        return pid

    def kill(self, part: str) -> int:
        """Kill -9 a part."""
        return self.signal(part, signal.SIGKILL)

    @contextlib.contextmanager
    def paused(self, part: str) -> Iterator[int]:
        """Stop a part (SIGSTOP) for the length of the block."""
        pid = self.signal(part, signal.SIGSTOP)
        try:
            yield pid
        finally:
            os.kill(pid, signal.SIGCONT)

    def until_replaced(self, part: str, pid: int) -> None:
        """Wait until another process than `pid` is the part."""
        eventually(lambda: self.parts().get(part, pid) != pid, f"a new {part}")

    # What there is

    @property
    def installation(self) -> dict[str, Any]:
        record: dict[str, Any] = json.loads((self.data_dir / "installation.json").read_text())
        return record

    def environment(self, part: str) -> dict[str, str]:
        """Return a part's environment, as the kernel has it."""
        raw = Path(f"/proc/{self.parts()[part]}/environ").read_bytes()
        return dict(item.split("=", 1) for item in raw.decode().split("\0") if "=" in item)

    def redis(self) -> "redis.Redis":
        """Return a client that may do everything."""
        socket = socket_folder(self.data_dir, os.environ) / "redis.sock"
        password = self.installation["redis_admin_password"]
        return redis.Redis(unix_socket_path=str(socket), username="bindery-admin", password=password)

    def refused_by_redis(self) -> list[dict[str, str]]:
        """Return what Redis has refused to which user since its start; a service that lacks a right is a fault."""
        with contextlib.closing(self.redis()) as client:
            return [
                {name: str(entry[name]) for name in ("username", "context", "object")} for entry in client.acl_log()
            ]

    def redis_keys(self) -> set[str]:
        with contextlib.closing(self.redis()) as client:
            return {key.decode() for key in client.keys("*")}

    def hub(self, path: str) -> Any:
        """GET from the hub's API with the launcher's token."""
        environ = self.environment("launcher")
        reply = self.client.get(
            environ["BINDERY_HUB_API_URL"] + path,
            headers={"Authorization": f"token {environ['BINDERY_HUB_API_TOKEN']}"},
        )
        reply.raise_for_status()
        return reply.json()

    def hub_answers(self) -> bool:
        """Return whether the hub answers us."""
        try:
            self.hub_users()
        except httpx.HTTPError:
            return False
        return True

    def hub_users(self) -> dict[str, list[str]]:
        """Return every user on the hub, with the names of their servers."""
        return {user["name"]: sorted(user.get("servers") or {}) for user in self.hub("users")}

    def sessions(self) -> set[str]:
        """Return what runs besides the parts: builds and user servers, as they recorded themselves."""
        return set(self.session_pids())

    def session_pids(self) -> dict[str, int]:
        """Return the same with the pids of their first processes."""
        return {what: pid for what, pid in self._recorded().items() if not what.startswith("upkeep ")}

    def _recorded(self) -> dict[str, int]:
        recorded: dict[str, int] = {}
        for path in (self.data_dir / "run" / "processes").glob("*.json"):
            with contextlib.suppress(FileNotFoundError):  # it has just ended
                recorded[json.loads(path.read_text())["what"]] = int(path.stem)
        return recorded

    def kill_session(self, name: str) -> int:
        """SIGKILL to a build or server, with all that it runs, by what `sessions` calls it."""
        (pid,) = (pid for session, pid in self.session_pids().items() if session == name)
        os.killpg(pid, signal.SIGKILL)
        return pid

    def part_client(self, part: str) -> httpx.Client:
        """Return a client for the requests that a part of ours gets from the others, with their token."""
        environ = self.environment(part)
        token = environ.get("BINDERY_START_TOKEN") or environ["BINDERY_SERVICE_TOKEN"]
        headers = {"Authorization": f"Bearer {token}"}
        if socket := environ.get("BINDERY_LISTEN_SOCKET"):
            transport = httpx.HTTPTransport(uds=socket)
            return httpx.Client(transport=transport, base_url=f"http://{part}", headers=headers, timeout=60)
        address = f"http://{environ['BINDERY_LISTEN_HOST']}:{environ['BINDERY_LISTEN_PORT']}"
        return httpx.Client(base_url=address, headers=headers, timeout=60, trust_env=False)

    def metrics(self, part: str) -> list[str]:
        """Return the lines of a part's metrics."""
        with self.part_client(part) as client:
            return client.get("/metrics").text.splitlines()

    def metric(self, part: str, name: str, label: str = "") -> float:
        """Return the sum of a metric's samples at a part, or of those with a label (`kind="b"`); 0 without any."""
        return sum(
            float(line.rpartition(" ")[2])
            for line in self.metrics(part)
            if line.split("{")[0].split(" ")[0] == name and label in line
        )
