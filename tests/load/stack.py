"""The services as `make up` runs them, with a stub hub and a stub forge: no JupyterHub, no network."""

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import quote

import httpx
import redis.asyncio as redis

from deploy.local.components import Component
from deploy.local.installation import open_installation
from deploy.local.plan import plan_components
from deploy.local.ports import hold_ports, is_free
from deploy.local.redis import redis_url
from deploy.local.settings import Settings
from deploy.local.sockets import open_socket_folder, remove_socket_folders, socket_folder
from services.builder.image_names import image_name
from services.builder.settings import BuilderSettings
from services.common.models import BuildInput, image_key
from tests.load.client import Place, fetch
from tests.load.processes import cpu_seconds
from tests.load.stub_forge import sha_of
from tests.support.paths import CHECKOUT
from tests.support.ports import free_ports

NOT_OURS = ("proxy", "hub", "culler")
_COUNTERS = ("bindery_redis_round_trips_total", "bindery_http_calls_total")
STUBS = ("stub_hub", "stub_forge")


class LoadStack:
    """Redis, the four services and the worker, as processes, in a folder of their own."""

    stub_hub_arguments: tuple[str, ...] = ()

    def __init__(self, folder: Path, *, gateways: int = 1, workers: int = 1, **settings: str) -> None:
        self.folder = folder
        self.data = folder / "data"
        (folder / "logs").mkdir(parents=True)
        hub_port, forge_port = free_ports(2, avoid=set())
        first = _first_of(gateways, avoid={hub_port, forge_port})
        self.forge = f"http://127.0.0.1:{forge_port}"
        self.hub = Place("127.0.0.1", hub_port, prefix="/hub/api")
        self._stub_ports = {"stub_hub": hub_port, "stub_forge": forge_port}
        self._settings = Settings(port=first, data_dir=self.data, gateways=gateways, workers=workers)
        self._overrides = {f"BINDERY_{name.upper()}": value for name, value in settings.items()}
        self.gateways = [Place("127.0.0.1", port) for port in self._settings.ports]
        self.parts: dict[str, Component] = {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._client = httpx.AsyncClient(trust_env=False, timeout=10)
        self._resources = contextlib.ExitStack()

    @property
    def gateway(self) -> Place:
        return self.gateways[0]

    # Life

    async def start(self) -> dict[str, float]:
        """Start everything; returns the seconds until each part was well, and until all were."""
        for name, port in self._stub_ports.items():
            arguments = self.stub_hub_arguments if name == "stub_hub" else ()
            self._spawn(name, (sys.executable, "-m", f"tests.load.{name}", str(port), *arguments), dict(os.environ))
        for port in self._stub_ports.values():
            await _until_listening(port)
        installation = open_installation(self.data)
        open_socket_folder(socket_folder(self.data, os.environ))
        own_environment = {name: value for name, value in os.environ.items() if not name.startswith("BINDERY_")}
        ports = self._resources.enter_context(hold_ports(self._settings))
        components = plan_components(
            self._settings, installation, self._client, own_environment | self._defaults() | self._overrides, ports
        )
        self.parts = {part.name: part for part in await self._planned(components) if part.name not in NOT_OURS}
        started_at = time.perf_counter()
        times = dict(await asyncio.gather(*(self._start_part(part, started_at) for part in self.parts.values())))
        return times | {"all": max(times.values())}

    async def _planned(self, components: Iterable[Component]) -> Iterable[Component]:
        """Return the components that are started, once what stands before them does."""
        return components

    def _defaults(self) -> dict[str, str]:
        return {
            "BINDERY_ALLOWED_NETWORKS": "127.0.0.0/8",
            "BINDERY_GITHUB_URL": self.forge,
            "BINDERY_GITHUB_API_URL": f"{self.forge}/api",
            "BINDERY_BASE_PACKAGES": "",
            "BINDERY_PYTHON_DOWNLOADS": "false",
            "BINDERY_BUILD_SLOTS": "16",
            # The reaper's round over thousands of servers would fall into one measure or another.
            "BINDERY_REAP_INTERVAL_SECONDS": "3600",
        }

    async def _start_part(self, part: Component, started_at: float) -> tuple[str, float]:
        while any(name not in self.processes for name in part.after):
            await asyncio.sleep(0.002)
        for name in part.after:
            await self._until_well(self.parts[name])
        self._spawn_part(part)
        await self._until_well(part)
        return part.name, time.perf_counter() - started_at

    def _environment(self, part: Component) -> dict[str, str]:
        base = f"http://127.0.0.1:{self.hub.port}/"
        hub = {"BINDERY_HUB_URL": base, "BINDERY_HUB_API_URL": f"{base}hub/api/"}
        return {name: hub.get(name, value) for name, value in part.environment.items()}

    def _spawn_part(self, part: Component) -> None:
        self._spawn(part.name, part.command, self._environment(part), part.descriptors)

    def _spawn(
        self, name: str, command: tuple[str, ...], environment: Mapping[str, str], descriptors: tuple[int, ...] = ()
    ) -> None:
        with (self.folder / "logs" / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command, cwd=CHECKOUT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, pass_fds=descriptors,
            )  # fmt: skip

    async def _until_well(self, part: Component, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while await part.health():
            process = self.processes[part.name]
            if process.poll() is not None or time.monotonic() > deadline:
                log_end = (self.folder / "logs" / f"{part.name}.log").read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{part.name} did not start: {log_end}")
            await asyncio.sleep(0.02)

    async def restart(self, name: str) -> float:
        """End one part and start it again; the seconds until it was well."""
        process = self.processes[name]
        process.terminate()
        await asyncio.to_thread(process.wait, 30)
        started_at = time.perf_counter()
        self._spawn_part(self.parts[name])
        await self._until_well(self.parts[name])
        return time.perf_counter() - started_at

    def kill(self, name: str) -> None:
        """Kill -9 a part."""
        self.processes[name].send_signal(signal.SIGKILL)
        self.processes[name].wait(10)

    async def stop(self) -> None:
        """End every part."""
        await self._client.aclose()
        order = sorted(self.processes, key=lambda name: (name == "redis", name in STUBS))
        for name in order:
            process = self.processes[name]
            process.terminate() if name in {"redis", *STUBS} else process.kill()
            process.wait(20)
        self._resources.close()
        remove_socket_folders(self.data, os.environ)

    # What there is to launch

    def git_spec(self, name: str, ref: str) -> str:
        """Return the façade's address of a repository of the stub forge, provider git."""
        return f"/build/git/{quote(f'{self.forge}/{name}', safe='')}/{ref}"

    def gh_spec(self, name: str, ref: str) -> str:
        return f"/build/gh/{name}/{ref}"

    def make_image(self, name: str) -> str:
        """Make the folders that stand for the images of a repository, for both providers; returns its sha."""
        sha = sha_of(name)
        url = f"{self.forge}/{name}"
        for slug in (url, name.replace("/", "-")):
            made_from = BuildInput(repo_url=url, build_ref=sha, slug=slug)
            image = image_name(BuilderSettings.model_fields["image_prefix"].default, made_from)
            build_id = f"{image_key(image)}-1"
            folder = self.data / "images" / build_id
            folder.mkdir(parents=True)
            manifest = {
                "v": 1, "image": image, "build_id": build_id, "repo_url": url, "ref": sha, "python": "3",
                "created": "2026-01-01T00:00:00Z", "start": None,
            }  # fmt: skip
            (folder / "image.json").write_text(json.dumps(manifest))
        return sha

    # What it costs

    def ours(self) -> list[str]:
        """Return the names of our own parts, Redis among them."""
        return list(self.parts)

    def cpu(self) -> dict[str, float]:
        """CPU seconds of each part so far, its ended children included."""
        return {name: cpu_seconds(self.processes[name].pid) for name in self.ours()}

    async def counts(self) -> dict[str, float]:
        """Return the counters of all parts together: Redis round trips and HTTP calls that launches cause."""
        total: dict[str, float] = {}
        for name in self.ours():
            if name == "redis":
                continue
            for line in (await self.metrics(name)).splitlines():
                key, _, value = line.rpartition(" ")
                if key.startswith(_COUNTERS) and 'doing="work"' in key:
                    total[key] = total.get(key, 0.0) + float(value)
        return total

    async def metrics(self, name: str) -> str:
        """Return the metrics of a part."""
        environment = self.parts[name].environment
        if socket := environment.get("BINDERY_LISTEN_SOCKET"):
            transport = httpx.AsyncHTTPTransport(uds=socket)
            async with httpx.AsyncClient(transport=transport) as client:
                return (await client.get(f"http://{name}/metrics")).text
        place = Place(environment["BINDERY_LISTEN_HOST"], int(environment["BINDERY_LISTEN_PORT"]))
        return (await fetch(place, "GET", "/metrics"))[1].decode()

    @property
    def redis_url(self) -> str:
        """The address of Redis for its admin user."""
        password = open_installation(self.data).redis_password("admin")
        return redis_url(socket_folder(self.data, os.environ) / "redis.sock", "admin", password)

    async def redis_commands(self) -> float:
        """Count the commands that Redis has carried out so far, those within scripts among them."""
        async with redis.Redis.from_url(self.redis_url) as client:
            return float((await client.info("stats"))["total_commands_processed"])

    async def hub_seconds(self) -> dict[str, float]:
        """Return how long the stub hub itself has worked on each user since the last call."""
        _, body = await fetch(self.hub, "GET", "/own-seconds")
        seconds: dict[str, float] = json.loads(body)
        return seconds


def _first_of(count: int, avoid: set[int]) -> int:
    """Return the first of `count` neighbouring free ports."""
    for first in free_ports(50, avoid=avoid):
        candidates = set(range(first, first + count))
        if not candidates & avoid and all(is_free("127.0.0.1", port) for port in candidates):
            return first
    raise RuntimeError("no free ports")


async def _until_listening(port: int, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.01)
            continue
        writer.close()
        return


def fresh_name(seed: str, number: int) -> str:
    """Return the name of a repository that nobody has launched yet."""
    return f"load/{seed}-{hashlib.sha256(f'{seed}{number}'.encode()).hexdigest()[:10]}"
