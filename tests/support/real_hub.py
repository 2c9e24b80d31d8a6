"""A real JupyterHub behind a real traefik, in a folder of its own, and small real images for it to run."""

import hashlib
import itertools
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import uv

from services.builder.executors.process.session import image_runtime
from services.builder.executors.process.session.layout import Manifest
from tests.support.paths import CHECKOUT
from tests.support.polling import eventually

T = TypeVar("T")
HUB_PYTHON = Path(os.environ.get("BINDERY_TEST_HUB_PYTHON", sys.executable)).absolute()
"""The Python whose JupyterHub is tested."""
TRIES_SECONDS = 120.0
"""How long a start is tried that the hub must answer within 0.3 s, as a busy machine does in its better moments."""


def free_port() -> int:
    """Return a port of the loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_environment(target: Path, *packages: str) -> Path:
    """Make an environment with JupyterLab and a kernel, as the builder would, or with other packages."""
    python = target / "bin" / "python"
    subprocess.run([uv.find_uv_bin(), "venv", "--quiet", "--python", sys.executable, target], check=True)
    install = [uv.find_uv_bin(), "pip", "install", "--quiet", "--python", python, "--compile-bytecode"]
    subprocess.run([*install, *(packages or ("jupyterlab", "ipykernel"))], check=True)
    return target


def make_image(
    data: Path, image: str, environment: Path, *, files: dict[str, str] | None = None, start: str | None = None
) -> Path:
    """Make an image folder of the builder's layout; `start` is the text of a start script."""
    key = hashlib.sha256(image.encode()).hexdigest()[:24]
    folder = data / "images" / f"{key}-1"
    repo = folder / "repo"
    repo.mkdir(parents=True)
    (folder / "env").symlink_to(environment)
    for name, text in (files or {"README.md": "hello\n"}).items():
        (repo / name).write_text(text)
    if start is not None:
        (repo / "start").write_text(start)
        (repo / "start").chmod(0o755)
    manifest = Manifest(
        image=image,
        build_id=folder.name,
        repo_url="https://example.org/r",
        ref="0" * 40,
        python="3",
        created="2026-01-01T00:00:00+00:00",
        start="start" if start is not None else None,
        program="jupyter-lab" if (environment / "bin" / "jupyter-lab").exists() else None,
        is_layered=True,
    )
    shutil.copytree(Path(image_runtime.__path__[0]), folder / "image_runtime")
    (folder / "image.json").write_text(manifest.model_dump_json())
    return folder


class HubStack:
    """Traefik and JupyterHub as processes, with the configuration of `deploy/jupyterhub`."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.data.mkdir(parents=True)
        self.port = free_port()
        self.hub_port = free_port()
        self.api_port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.api = f"http://{settings.get('BINDERY_HUB_LISTEN_HOST', '127.0.0.1')}:{self.hub_port}/hub/api"
        self.launcher_token = secrets.token_hex(16)
        self.culler_token = secrets.token_hex(16)
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("JUPYTERHUB")},
            "PATH": f"{HUB_PYTHON.parent}{os.pathsep}{os.environ['PATH']}",
            "BINDERY_HUB_API_TOKEN": self.launcher_token,
            "BINDERY_CULLER_API_TOKEN": self.culler_token,
            "BINDERY_HUB_BIND_URL": f"{self.url}/",
            "BINDERY_HUB_PORT": str(self.hub_port),
            "BINDERY_PROXY_API_URL": f"http://127.0.0.1:{self.api_port}",
            "BINDERY_PROXY_API_USERNAME": "hub",
            "BINDERY_PROXY_API_PASSWORD": secrets.token_hex(16),
            "BINDERY_PROXY_RULES_FILE": str(folder / "rules.toml"),
            "BINDERY_DATA_DIR": str(self.data),
            "BINDERY_INSTALLATION_ID": "test",
            "BINDERY_ALLOWED_ORIGINS": "https://a.example,https://b.example",
            "BINDERY_SERVER_START_TIMEOUT_SECONDS": "45",
            "BINDERY_SERVER_POLL_SECONDS": "1",
            **settings,
        }
        self.traefik: subprocess.Popen[bytes] | None = None
        self.hub: subprocess.Popen[bytes] | None = None
        self.log = folder / "hub.log"

    def start(self) -> None:
        """Start the proxy and the hub, and wait until the hub answers through the proxy."""
        self.start_proxy()
        self.start_hub()

    def start_proxy(self) -> None:
        static = self.folder / "traefik.toml"
        static.write_text(
            f"""
            [api]
            [global]
            checkNewVersion = false
            sendAnonymousUsage = false
            [entryPoints.http]
            address = "127.0.0.1:{self.port}"
            [entryPoints.auth_api]
            address = "127.0.0.1:{self.api_port}"
            [providers]
            providersThrottleDuration = "0s"
            [providers.file]
            filename = "{self.env["BINDERY_PROXY_RULES_FILE"]}"
            watch = true
            """
        )
        Path(self.env["BINDERY_PROXY_RULES_FILE"]).touch()
        with (self.folder / "traefik.log").open("ab") as log:
            command = [str(Path(sys.executable).with_name("traefik")), "--configfile", str(static)]
            self.traefik = subprocess.Popen(command, env=self.env, stdout=log, stderr=log)

    def start_hub(self) -> None:
        """Start the hub alone and wait until it answers through the proxy."""
        self.begin_hub()
        eventually(self.answers, f"the hub answers, {self.log}", seconds=120)

    def begin_hub(self) -> None:
        """Start the hub alone and wait for nothing."""
        with self.log.open("ab") as log:
            config = CHECKOUT / "deploy" / "jupyterhub" / "jupyterhub_config.py"
            command = [str(HUB_PYTHON), "-m", "jupyterhub", "-f", str(config)]
            self.hub = subprocess.Popen(command, env=self.env, cwd=self.folder, stdout=log, stderr=log)

    def answers(self) -> bool:
        """Return whether the hub answers through the proxy."""
        assert self.hub is not None
        assert self.hub.poll() is None, self.log.read_text()[-3000:]
        try:
            return httpx.get(f"{self.url}/hub/api/").status_code == 200
        except httpx.HTTPError:
            return False

    def kill_hub(self) -> None:
        """Kill the hub as a crash would."""
        assert self.hub is not None
        self.hub.send_signal(signal.SIGKILL)
        self.hub.wait()

    def stop(self) -> None:
        """Stop the hub and the proxy. Servers that run go on: stop them first."""
        for process in (self.hub, self.traefik):
            if process and process.poll() is None:
                process.terminate()
                process.wait(timeout=20)

    def call(self, method: str, path: str, *, token: str | None = None, **arguments: Any) -> httpx.Response:
        """Call the hub's API, as the launcher unless another token is given."""
        headers = {"Authorization": f"token {token or self.launcher_token}"}
        return httpx.request(method, f"{self.api}/{path}", headers=headers, timeout=30, **arguments)

    def server(self, user: str) -> dict[str, Any] | None:
        """Return the hub's model of a user's server; None if it has none."""
        answer = self.call("GET", f"users/{user}")
        answer.raise_for_status()
        servers: dict[str, dict[str, Any]] = answer.json()["servers"]
        return servers.get("")

    def request_server(self, user: str, **options: object) -> httpx.Response:
        """Create a user and ask for a server; returns the hub's answer to the second call."""
        assert self.call("POST", f"users/{user}").status_code == 201
        return self.call("POST", f"users/{user}/server", json=options)

    def refuse_server(self, user: str, **options: object) -> httpx.Response:
        """Ask for a server that can't be started; return the hub's refusal.

        The hub waits 0.3 s for a start. A busy machine needs longer and is answered 202: then another user asks.
        """
        users = (f"{user}{number}" for number in itertools.count())

        def refusal() -> httpx.Response | None:
            name = next(users)
            answer = self.request_server(name, **options)
            if answer.status_code != 202:
                return answer
            list(self.progress(name))
            return None

        answer: httpx.Response = eventually(
            refusal, "the hub refuses while it still waits for the start", TRIES_SECONDS
        )
        return answer

    def failure_of_server(self, user: str, **options: object) -> str:
        """Ask for a server that fails at once; return what the hub says of it, in its answer or as progress.

        A start that fails between the two is told in neither: then another user asks.
        """
        users = (f"{user}{number}" for number in itertools.count())

        def failure() -> str:
            name = next(users)
            answer = self.request_server(name, **options)
            if answer.status_code >= 400:
                return str(answer.json()["message"])
            events = list(self.progress(name))
            return str(events[-1]["message"]) if events else ""

        message: str = eventually(failure, "the hub says how the start failed", TRIES_SECONDS)
        return message

    def progress(self, user: str) -> Iterator[dict[str, Any]]:
        """Yield the events of a start until it ends."""
        headers = {"Authorization": f"token {self.launcher_token}"}
        with httpx.stream("GET", f"{self.api}/users/{user}/server/progress", headers=headers, timeout=60) as stream:
            for line in stream.iter_lines():
                if line.startswith("data:"):
                    yield json.loads(line[5:])

    def launch(self, user: str, image: str, **options: object) -> list[dict[str, Any]]:
        """Start a server and return the events of its start, the last of which says how it ended."""
        token = options.setdefault("token", f"token-of-{user}")
        answer = self.request_server(user, image=image, **options)
        assert answer.status_code in (201, 202), (answer.text, token)
        return list(self.progress(user))

    def serve(self, user: str, image: str, **options: object) -> None:
        """Start a server, which must become ready; its token is `token-of-<user>`."""
        events = self.launch(user, image, **options)
        assert events[-1].get("ready"), events
