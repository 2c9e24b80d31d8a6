"""A process of one of our services that may not get far: what it answers, logs and exits with."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.support.paths import CHECKOUT

TOKEN = "t" * 32
SECRETS = {"BINDERY_SERVICE_TOKEN": TOKEN, "BINDERY_INSTALLATION_SECRET": "s" * 32}
SERVICES = ("gateway", "builder", "builder.worker", "launcher")
"""Those that need Redis to start."""


@dataclass
class StartingService:
    """A service's process, with its socket and its output."""

    process: subprocess.Popen[bytes]
    socket: Path
    output: Path

    def get(self, path: str, *, token: str = TOKEN, accept: str = "*/*") -> httpx.Response | None:
        """Return an answer, or None if there is none."""
        transport = httpx.HTTPTransport(uds=str(self.socket))
        headers = {"Accept": accept} | ({"Authorization": f"Bearer {token}"} if token else {})
        with httpx.Client(transport=transport, base_url="http://127.0.0.1", headers=headers, timeout=20) as client:
            try:
                return client.get(path)
            except httpx.NetworkError:
                return None

    def status(self, path: str) -> int:
        reply = self.get(path)
        return reply.status_code if reply else 0

    def start_problem(self) -> str:
        """Return what health says about the start; nothing once it has started."""
        reply = self.get("/health")
        rows = reply.json()["checks"] if reply else []
        return next((row["message"] for row in rows if row["service"] == "Start"), "")

    def lines(self, event: str) -> list[dict[str, Any]]:
        """Return the lines of the log about an event."""
        lines = [json.loads(line) for line in self.output.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    def exit_status(self) -> int:
        return self.process.wait(60)


@contextlib.contextmanager
def starting(service: str, folder: Path, sockets: Path, **variables: object) -> Iterator[StartingService]:
    """Start `services.<service>` with settings (`redis_url=…`) and with secrets; kill it at the end of the block.

    `sockets` is a folder with a short path.
    """
    socket = sockets / service
    environ = {name: value for name, value in os.environ.items() if not name.startswith("BINDERY_")} | SECRETS
    environ["BINDERY_START_HOLD_SECONDS"] = "0.1"
    environ |= {"BINDERY_LISTEN_SOCKET": str(socket), "BINDERY_DATA_DIR": str(folder), "BINDERY_EXECUTOR": "process"}
    for name, value in variables.items():
        environ[name.upper() if name.isupper() else f"BINDERY_{name.upper()}"] = str(value)
    output = folder / f"{service}.log"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", f"services.{service}"], cwd=CHECKOUT, env=environ, stdout=file, stderr=file
        )
    try:
        yield StartingService(process, socket, output)
    finally:
        process.kill()
        process.wait()
