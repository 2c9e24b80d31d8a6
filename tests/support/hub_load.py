"""A real hub with brief servers, launcher processes at it, and launches as a gateway requests them."""

import contextlib
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx

from services.common.context import ProcessContext, open_context
from services.common.models import Server, ServerRequest
from services.common.redis.keys import Kind
from services.common.service.settings import ServiceSettings
from services.gateway.backends import Backends
from services.gateway.settings import GatewaySettings
from services.launcher.servers import server_topic
from tests.support.in_process_launcher import REPO
from tests.support.paths import CHECKOUT
from tests.support.polling import eventually
from tests.support.real_hub import free_port
from tests.support.settings import settings_for
from tests.support.valkey import Valkey

HUB_PYTHON = Path(os.environ.get("BINDERY_TEST_HUB_PYTHON", sys.executable)).absolute()
"""The Python whose JupyterHub is tested."""

TOKEN = secrets.token_hex(16)


class BriefHub:
    """JupyterHub as a process; it may be killed and started again on its data."""

    def __init__(self, folder: Path, *, spawn_limit: int = 100, has_mixin: bool = True) -> None:
        self.folder = folder
        self.token = secrets.token_hex(16)
        folder.mkdir(parents=True)
        self.port = free_port()
        self.servers_port = free_port()
        self.api = f"http://127.0.0.1:{self.port}/hub/api/"
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("JUPYTERHUB", "BINDERY"))},
            "BRIEF_PUBLIC_PORT": str(free_port()),
            "BRIEF_HUB_PORT": str(self.port),
            "BRIEF_SERVERS_PORT": str(self.servers_port),
            "BRIEF_SPAWN_LIMIT": str(spawn_limit),
            "BRIEF_TOKEN": self.token,
            "BRIEF_MIXIN": "1" if has_mixin else "",
        }
        self.log = folder / "hub.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        config = CHECKOUT / "tests" / "support" / "brief_hub_config.py"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [HUB_PYTHON, "-m", "jupyterhub", "-f", str(config)],
                env=self.env, cwd=self.folder, stdout=log, stderr=log,
            )  # fmt: skip
        eventually(self._answers, f"the hub answers, {self.log}", seconds=60)
        return self

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(self.api, trust_env=False).status_code == 200
        return False

    def kill(self, by: signal.Signals = signal.SIGKILL) -> None:
        assert self.process is not None
        self.process.send_signal(by)
        self.process.wait(30)

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Make the hub stand still for as long as the block, with all its connections open."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def users(self) -> dict[str, dict[str, Any]]:
        """Return every user, with the models of their servers."""
        headers = {"Authorization": f"token {self.token}"}
        reply = httpx.get(f"{self.api}users", headers=headers, trust_env=False, timeout=30)
        reply.raise_for_status()
        return {user["name"]: user["servers"] for user in reply.json()}

    def has_followed_start(self) -> bool:
        """Return whether somebody has followed a start of a server, which is the first one."""
        return self.peaks()["followed"] > 0

    def peaks(self) -> dict[str, int]:
        """Return the most servers and the most starts at once, and the numbers of starts and of followed progresses.

        None before the first, with which they begin to answer.
        """
        try:
            peaks: dict[str, int] = httpx.get(f"http://127.0.0.1:{self.servers_port}/peaks", trust_env=False).json()
        except httpx.TransportError:
            return {"running": 0, "starting": 0, "starts": 0, "followed": 0}
        return peaks


@contextlib.contextmanager
def running_brief_hub(folder: Path, *, spawn_limit: int = 100, has_mixin: bool = True) -> Iterator[BriefHub]:
    hub = BriefHub(folder, spawn_limit=spawn_limit, has_mixin=has_mixin).start()
    try:
        yield hub
    finally:
        hub.kill()


class LauncherProcess:
    """`python -m services.launcher`; it may be killed and started again."""

    def __init__(self, folder: Path, valkey: Valkey, hub: BriefHub, **settings: object) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / f"launcher-{self.port}.log"
        self.settings = {
            "data_dir": folder, "service_token": TOKEN, "installation_secret": "s" * 32,
            "installation_id": "test", "listen_port": self.port, "log_format": "text",
            "hub_api_url": hub.api, "hub_api_token": hub.token,
            "reap_interval_seconds": 0.5, "reap_disarmed_seconds": 1.0,
            "lease_seconds": 3, "lease_renew_seconds": 1, "sweep_interval_seconds": 0.5, "reread_seconds": 2,
            "recount_seconds": 2,
            **settings,
        }  # fmt: skip
        self.settings["redis_url"] = valkey.url_in(str(self.settings["installation_id"]), "launcher")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        env = {name: value for name, value in os.environ.items() if not name.startswith("BINDERY_")}
        env |= {f"BINDERY_{name.upper()}": str(value) for name, value in self.settings.items()}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "services.launcher"], cwd=CHECKOUT, env=env, stdout=log, stderr=log
            )
        eventually(self._answers, f"the launcher answers, {self.log}", seconds=60)
        return self

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/health", trust_env=False).status_code in {200, 503}
        return False

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def running_launcher(folder: Path, valkey: Valkey, hub: BriefHub, **settings: object) -> Iterator[LauncherProcess]:
    launcher = LauncherProcess(folder, valkey, hub, **settings).start()
    try:
        yield launcher
    finally:
        launcher.kill()


@dataclass
class Clicks:
    """Asks for servers as gateways do, and follows them in Redis."""

    context: ProcessContext
    backends: list[Backends]
    launch_refs: list[str] = field(default_factory=list)

    async def launch(self, launch_ref: str, repo: str = "a", kind: str = "brief") -> Server:
        """Launch once, to the end; return the server as its record says then."""
        of = REPO.updated(repo_url=f"https://example.org/org/{repo}")
        request = ServerRequest(launch_ref=launch_ref, repo=of, image=f"{kind}:{repo}")
        backends = self.backends[len(self.launch_refs) % len(self.backends)]
        self.launch_refs.append(launch_ref)
        server = await backends.start_server(request)
        while not await self.context.bus.wait_for_end(server_topic(server.server_id)):
            server = await backends.start_server(request)
        return await self.read(server.server_id)

    async def read(self, server_id: str) -> Server:
        stored = await self.context.records.read(server_topic(server_id))
        assert stored
        return stored.model(Server)

    async def members(self) -> int:
        """Count the seats that are taken."""
        return int(await self.context.redis.hlen(self.context.keys("{seats}:members")))


@contextlib.asynccontextmanager
async def clicks(valkey: Valkey, *launchers: LauncherProcess) -> AsyncIterator[Clicks]:
    """Launch through some launchers, in turn."""
    backends = [
        Backends(settings_for(GatewaySettings, {"launcher_url": launcher.url, "service_token": TOKEN}))
        for launcher in launchers
    ]
    installation = {"installation_id": launchers[0].settings["installation_id"]}
    settings = settings_for(ServiceSettings, {"redis_url": valkey.url, "data_dir": valkey.data_dir, **installation})
    async with open_context(settings, subscribe_all={Kind.SERVER}) as context:
        try:
            yield Clicks(context, backends)
        finally:
            for backend in backends:
                await backend.aclose()
