"""A stack whose Redis is in a network namespace of its own, reached by TCP, so that connections to it can be cut.

`python -m tests.support.far_redis` is `bindery up` with that change.
"""

import hashlib
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from deploy.local.components import Component
from deploy.local.installation import Installation
from deploy.local.plan import plan_components
from deploy.local.ports import Ports
from deploy.local.settings import Settings
from tests.support.planned_stack import run_stack
from tests.support.stack import Stack

PORT = 6379


@dataclass(frozen=True)
class FarNetwork:
    """The namespace for the stack of a data folder: its name and addresses follow from the folder's."""

    data_dir: Path

    @property
    def name(self) -> str:
        """Name of the namespace, and of the cable's ends."""
        return f"bindery{self._number:x}"

    @property
    def address(self) -> str:
        """Address of Redis."""
        return f"{self._network}.2"

    @property
    def _number(self) -> int:
        return int.from_bytes(hashlib.sha256(str(self.data_dir.resolve()).encode()).digest()[:2])

    @property
    def _network(self) -> str:
        return f"10.{self._number >> 8}.{self._number & 255}"

    @contextmanager
    def up(self) -> Iterator[None]:
        """Keep the namespace for the length of a block. Fails the test if this machine does not let us make one."""
        try:
            self._run("ip", "netns", "add", self.name)
        except (OSError, subprocess.CalledProcessError) as error:
            reason = getattr(error, "stderr", "") or str(error)
            pytest.fail(f"a network namespace can't be made, which needs root and iproute2: {reason.strip()}")
        try:
            self._run("ip", "link", "add", self.name, "type", "veth", "peer", "name", "far", "netns", self.name)
            self._run("ip", "address", "add", f"{self._network}.1/30", "dev", self.name)
            self._run("ip", "link", "set", self.name, "up")
            self._inside("ip", "address", "add", f"{self.address}/30", "dev", "far")
            self._inside("ip", "link", "set", "far", "up")
            yield
        finally:
            self._run("ip", "netns", "delete", self.name)

    def command(self, command: Sequence[str]) -> tuple[str, ...]:
        """Return the command that runs `command` inside."""
        return ("nsenter", f"--net=/run/netns/{self.name}", *command)

    def cut(self) -> int:
        """Let no packet of the connections to Redis that are open now pass, either way; return how many there are.

        Neither end is told: to both, their connection is open. New connections can be made.
        """
        sockets = self._inside("ss", "--no-header", "--tcp", "--numeric", "state", "established", f"sport = :{PORT}")
        peers = [line.split()[-1].rpartition(":")[2] for line in sockets.splitlines()]
        rules = [f"-A INPUT -p tcp --sport {port} -j DROP\n-A OUTPUT -p tcp --dport {port} -j DROP" for port in peers]
        text = "\n".join(["*filter", *rules, "COMMIT", ""])
        self._run(*self.command(["iptables-restore", "--noflush"]), text=text)
        return len(peers)

    def _inside(self, *command: str) -> str:
        return self._run(*self.command(command))

    def _run(self, *command: str, text: str = "") -> str:
        return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


class FarRedisStack(Stack):
    """`bindery up` with a Redis behind a cable."""

    program = ("-m", "tests.support.far_redis")

    @property
    def network(self) -> FarNetwork:
        """The way to Redis."""
        return FarNetwork(self.data_dir)


def _plan(
    settings: Settings,
    installation: Installation,
    client: httpx.AsyncClient,
    environ: Mapping[str, str],
    ports: Ports,
) -> list[Component]:
    network = FarNetwork(settings.data_dir)
    listening = ("--port", str(PORT), "--bind", network.address, "--protected-mode", "no")
    components: list[Component] = []
    for component in plan_components(settings, installation, client, environ, ports):
        environment = dict(component.environment)
        if component.name == "redis":
            component = replace(component, command=network.command([*component.command, *listening]))
        elif url := environment.get("BINDERY_REDIS_URL"):
            login = urlsplit(url).netloc.rpartition("@")[0]
            environment["BINDERY_REDIS_URL"] = f"redis://{login}@{network.address}:{PORT}/0"
        components.append(replace(component, environment=environment))
    return components


if __name__ == "__main__":
    sys.exit(run_stack(_plan))
