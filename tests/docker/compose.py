"""What the tests of docker-compose.yml share: stacks with this machine's images, a forge, and what must not be left."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.support.api_launches import ApiLaunch
from tests.support.compose_images import StandIns
from tests.support.compose_stack import ComposeStack
from tests.support.engine import Engine
from tests.support.faults import until_gone
from tests.support.forge import Forge
from tests.support.full_chain import QUICK, Repository, run_notebook
from tests.support.polling import eventually

SETTINGS: dict[str, object] = QUICK | {"idle_timeout_seconds": 30, "build_capacity": 6}
"""A server outlives the start of a hub, which on a busy machine takes 15 s; it takes three workers to do all builds."""


@dataclass(frozen=True, kw_only=True)
class Chain:
    """What a stack of docker-compose.yml is made of here.

    With `is_behind_proxy` its Docker client is set up as on a machine that reaches the internet by a proxy.
    """

    folder: Path
    engine: Engine
    forge: Forge
    service_images: dict[str, str]
    stand_ins: StandIns
    compose_environ: dict[str, str]
    is_behind_proxy: bool = True
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def prepare(self, **settings: object) -> ComposeStack:
        """Return a stack that is not up; its builds and its resolver may reach the forge."""
        host = self.forge.url.partition("//")[2].partition(":")[0]
        prefix, _, tag = self.service_images["gateway"].rpartition("gateway:")
        variables = {"BINDERY_IMAGES": prefix, "BINDERY_TAG": tag, "BINDERY_ALLOWED_NETWORKS": f"{host}/32"}
        folder = self.folder / f"stack-{next(self._numbers)}"
        variables |= self.stand_ins.variables()
        client = {"DOCKER_CONFIG": str(self._client_with_proxies())} if self.is_behind_proxy else {}
        return ComposeStack(
            folder,
            engine=self.engine,
            compose_environ=self.compose_environ | client,
            variables=variables,
            **(SETTINGS | settings),
        )

    def _client_with_proxies(self) -> Path:
        """Return a Docker client's folder with a proxy that nobody answers at: it gives that to every container."""
        folder = self.folder / "docker-config"
        if not folder.exists():
            folder.mkdir()
            proxies = {"httpProxy": "http://127.0.0.1:9", "httpsProxy": "http://127.0.0.1:9"}
            (folder / "config.json").write_text(json.dumps({"proxies": {"default": proxies}}))
            plugins = Path(self.compose_environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "cli-plugins"
            if plugins.exists():
                (folder / "cli-plugins").symlink_to(plugins)
        return folder

    @contextlib.contextmanager
    def stack(self, **settings: object) -> Iterator[ComposeStack]:
        """Keep a stack up for the length of the block."""
        stack = self.prepare(**settings)
        try:
            yield stack.up()
            assert stack.refused_by_redis() == []
        finally:
            stack.stop()


def slow_step() -> str:
    """Return a step of a Dockerfile that takes some seconds, and that no cache has."""
    return f"RUN : {uuid4()}; for i in $(seq 80); do echo line-$i-; sleep 0.1; done"


def run_notebook_in_the_end(launch: ApiLaunch, repository: Repository) -> None:
    """Wait until a launch is ready, whose stream may break off meanwhile, and run its notebook."""

    def follow_on() -> bool:
        if launch.stream.is_broken or not launch.stream.is_being_read:
            launch.stream.resume()
        return launch.stream.terminal is not None

    eventually(follow_on, f"the launch ends; so far {launch.stream.events[-3:]}", 300)
    run_notebook(launch, repository)


def until_nothing_runs(stack: ComposeStack) -> None:
    """Delete the hub's users, and wait until no container of a server or a build is there."""
    for user in stack.hub_users():
        stack.delete_hub_user(user)
    until_gone(stack.hub_users, "the hub has no users", 60)
    until_gone(lambda: [container["Name"] for container in stack.started_containers()], "no container is left", 60)


def objects(docker: Engine) -> frozenset[str]:
    """Return the name of every container, volume and network of the engine."""
    containers = docker.docker("ps", "--all", "--format", "container {{.Names}}")
    volumes = docker.docker("volume", "ls", "--format", "volume {{.Name}}")
    networks = docker.docker("network", "ls", "--format", "network {{.Name}}")
    return frozenset(f"{containers}{volumes}{networks}".splitlines())


def listening_ports(container: dict[str, Any]) -> set[int]:
    """Return the TCP ports at which processes of a container listen, for others than itself too."""
    ports = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{container['State']['Pid']}/net/{table}").read_text().splitlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            if state == _LISTEN:
                ports.add(int(local.rpartition(":")[2], 16))
    return ports


_LISTEN = "0A"
"""The state of a socket that listens, in /proc/net/tcp."""
