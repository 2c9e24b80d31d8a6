"""A stack of docker-compose.yml: a clean checkout with secrets and settings of its own, in the engine of the tests.

What a test changes stands in `.env` of the checkout or, where an operator has no variable, in an override of services.
"""

import itertools
import json
import os
import signal
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import yaml

from deploy.compose import env_file
from deploy.jupyterhub.labels import installation_label
from tests.support.engine import Engine
from tests.support.installed import Installed
from tests.support.paths import CHECKOUT
from tests.support.polling import eventually
from tests.support.ports import free_ports

OURS = ("gateway", "resolver", "builder", "builder-worker", "launcher", "jupyterhub")
"""The services of our own images."""
SERVICES = ("redis", "registry", "proxy", *OURS)
"""What runs: repo2docker has ended as soon as it was started."""
UP_SECONDS = 180
_numbers = itertools.count(1)


def clean_checkout(folder: Path) -> Path:
    """Copy what git has of the checkout, as it is now, into a new folder; return that."""
    listed = subprocess.run(
        ["git", "-C", str(CHECKOUT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        source = CHECKOUT / name
        if source.is_file():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
            target.chmod(source.stat().st_mode)
    return folder


class ComposeStack(Installed):
    """One project of Docker Compose. `compose_environ` is what makes `docker compose` run, `variables` go into `.env`.

    `settings` are given to each of our services, as `BINDERY_<NAME>`, in lower case here.
    """

    HUB = "jupyterhub"

    def __init__(
        self,
        folder: Path,
        *,
        engine: Engine,
        compose_environ: Mapping[str, str],
        variables: Mapping[str, str],
        **settings: object,
    ) -> None:
        self.engine = engine
        self.folder = clean_checkout(folder / "bindery")
        self.project = f"bindery-test-{os.getpid()}-{next(_numbers)}"
        self._environ = {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            **compose_environ,
            "DOCKER_HOST": engine.host,
            "DOCKER_BUILDKIT": "0",
            "COMPOSE_PROJECT_NAME": self.project,
        }
        self.port, self.registry_port = free_ports(2, avoid=set())
        self.make("compose-secrets")
        self.set_variables(
            BINDERY_PORT=str(self.port),
            BINDERY_REGISTRY_PORT=str(self.registry_port),
            **variables,
        )
        self.override(OURS, settings)
        super().__init__()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def registry_url(self) -> str:
        """The address of its registry for this machine."""
        return f"http://127.0.0.1:{self.registry_port}"

    # The checkout

    def make(self, *arguments: str, seconds: float = 120) -> str:
        """Run make in the checkout; return its output."""
        return self.run("make", *arguments, seconds=seconds)

    def run(self, *command: str, seconds: float = 120) -> str:
        """Run a command in the checkout, as an operator does; return its output. Fails with its errors."""
        process = self._run(command, seconds)
        assert process.returncode == 0, f"{' '.join(command)}\n{process.stdout[-1000:]}{process.stderr[-3000:]}"
        return process.stdout

    def _run(self, command: Iterable[str], seconds: float) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            list(command), cwd=self.folder, env=self._environ, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=seconds, check=False,
        )  # fmt: skip

    def set_variables(self, **variables: str) -> None:
        """Write variables to the end of `.env`, where they count."""
        with (self.folder / ".env").open("a") as file:
            file.writelines(f"{name}={value}\n" for name, value in variables.items())

    def override(self, services: Iterable[str], settings: Mapping[str, object]) -> None:
        """Give services settings, in the file that Compose reads beside docker-compose.yml."""
        file = self.folder / "docker-compose.override.yml"
        content = yaml.safe_load(file.read_text()) if file.exists() else {"services": {}}
        for service in services:
            environment = content["services"].setdefault(service, {}).setdefault("environment", {})
            environment.update({f"BINDERY_{name.upper()}": str(value) for name, value in settings.items()})
        file.write_text(yaml.safe_dump(content))

    @property
    def secrets(self) -> dict[str, str]:
        """What `make compose-secrets` has made."""
        return env_file.read(self.folder / "secrets" / "all.env")

    # The containers

    def compose(self, *arguments: str, seconds: float = 120) -> str:
        """Run `docker compose`; return what it prints. Fails with its errors."""
        return self.run("docker", "compose", *arguments, seconds=seconds)

    def compose_refusal(self, *arguments: str, seconds: float = 120) -> str:
        """Run a `docker compose` that must fail; return its errors."""
        process = self._run(("docker", "compose", *arguments), seconds)
        assert process.returncode, f"it should have failed: {process.stdout}"
        return process.stderr

    def up(self, *arguments: str) -> Self:
        """Start what is not up, and wait until everything is healthy."""
        process = self._run(("docker", "compose", "up", "--detach", "--wait", *arguments), UP_SECONDS)
        assert process.returncode == 0, f"{process.stderr[-2000:]}\n{self.state()}"
        return self

    def down(self, *arguments: str) -> None:
        self.compose("down", *arguments)

    def stop(self) -> None:
        """Remove everything of the project, its volumes too, and whatever it has started in the engine."""
        self.client.close()
        for container in self.started_containers():
            self.engine.docker("rm", "--force", "--volumes", container["Id"], is_checked=False)
        self.down("--volumes", "--remove-orphans", "--timeout", "2")

    def containers(self, *services: str) -> list[dict[str, Any]]:
        """Return what the engine says of the containers of services, or of all that run all the time."""
        return self._inspect(self.compose("ps", "--all", "--quiet", *(services or SERVICES)).split())

    def started_containers(self) -> list[dict[str, Any]]:
        """Return the containers of builds and of users, which the services have started."""
        ids = {
            container_id
            for label in self._labels()
            for container_id in self.engine.docker("ps", "--all", "--quiet", "--filter", f"label={label}").split()
        }
        return self._inspect(ids)

    def objects(self) -> frozenset[str]:
        """Return the names of its containers, those of builds and users too, and of all volumes and networks.

        Those of other projects, which the engine may run at the same time, are left out.
        """
        names = {f"container {container['Name']}" for container in [*self.containers(), *self.started_containers()]}
        for kind in ("volume", "network"):
            form = '{{.Label "com.docker.compose.project"}} {{.Name}}'
            for line in self.engine.docker(kind, "ls", "--format", form).splitlines():
                project, name = line.split(" ")
                names |= {f"{kind} {name}"} if project in {"", self.project} else set()
        return frozenset(names)

    def _labels(self) -> tuple[str, str]:
        installation_id = self.installation["installation_id"]
        return f"bindery.installation={installation_id}", f"bindery/installation={installation_label(installation_id)}"

    def _inspect(self, ids: Iterable[str]) -> list[dict[str, Any]]:
        names = list(ids)
        if not names:
            return []
        inspections: list[dict[str, Any]] = json.loads(self.engine.docker("inspect", *names, is_checked=False))
        return inspections  # without what has gone in the meantime

    def container(self, service: str) -> dict[str, Any]:
        """Return the one container of a service."""
        [container] = self.containers(service)
        return container

    def kill(self, service: str) -> None:
        """SIGKILL to the first process of each of a service's containers, as the kernel does it.

        `docker kill` would be the operator's own wish, after which the engine starts nothing again.
        """
        for container in self.containers(service):
            os.kill(container["State"]["Pid"], signal.SIGKILL)

    def health(self, service: str) -> tuple[str, str]:
        """Return the status of a service's health, and what its last probe has printed; of one that ended its state."""
        state = self.container(service)["State"]
        probes = state.get("Health", {}).get("Log") or [{"Output": ""}]
        status = state["Health"]["Status"] if state["Running"] and "Health" in state else state["Status"]
        return status, probes[-1]["Output"]

    def log(self, *services: str) -> str:
        return self.compose("logs", "--no-color", "--no-log-prefix", *services)

    def until_healthy(self, *services: str, seconds: float = 90) -> None:
        """Wait until all containers of services, or of all, run and are healthy."""

        def unhealthy() -> list[str]:
            return [
                container["Name"]
                for container in self.containers(*services)
                if not container["State"]["Running"] or container["State"]["Health"]["Status"] != "healthy"
            ]

        try:
            eventually(lambda: not unhealthy(), "everything is healthy", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}: {unhealthy()}\n{self.state()}") from None

    def state(self) -> str:
        """Return what an operator looks at first."""
        listing = self._run(("docker", "compose", "ps", "--all"), 60).stdout
        return listing + self._run(("docker", "compose", "logs", "--no-color", "--tail", "15"), 60).stdout

    # What the services say

    def address(self, service: str) -> str:
        """Return the IP address of a service's container in a network of ours, which this machine reaches."""
        networks = self.container(service)["NetworkSettings"]["Networks"]
        return next(str(network["IPAddress"]) for name, network in networks.items() if not name.endswith("-servers"))

    def secret_of(self, name: str) -> str:
        return self.secrets[name.upper().replace("-", "_")]
