"""Fixtures and questions for tests that run servers through a real hub; a test module imports the fixtures."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from deploy.jupyterhub.image_folders import ServerFolder, ServerRecord
from tests.support.polling import eventually
from tests.support.real_hub import HubStack, make_environment, make_image


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_environment(tmp_path_factory.mktemp("environment") / "env")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, environment: Path) -> Iterator[HubStack]:
    stack = HubStack(tmp_path_factory.mktemp("hub"), BINDERY_SERVICE_TOKEN="very-secret")
    make_image(stack.data, "plain", environment, files={"README.md": "hello\n"})
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


@pytest.fixture(autouse=True)
def nothing_is_left(hub: HubStack) -> Iterator[None]:
    """Check after each test that none of its users, servers, processes, folders, records and routes is left."""
    yield
    for user in hub.call("GET", "users").json():
        if user["servers"]:
            assert hub.call("DELETE", f"users/{user['name']}/server").status_code in (202, 204)
            eventually(partial(is_gone, hub, user["name"]), "the server is gone")
        assert hub.call("DELETE", f"users/{user['name']}").status_code == 204
    assert processes_at(hub.data / "servers") == []
    assert list((hub.data / "servers").glob("*")) == []
    # What follows a build of the test may go on for a while, and has a record until then.
    eventually(lambda: not list((hub.data / "run").rglob("*.json")), "no process has a record any more", 120)
    assert "user" not in Path(hub.env["BINDERY_PROXY_RULES_FILE"]).read_text().replace("users = [", "")


def processes_at(folder: Path) -> list[str]:
    """Return the command lines of living processes whose environment or arguments name `folder`."""
    lines = subprocess.run(["ps", "-axeww", "-o", "stat=,args="], capture_output=True, text=True, check=True).stdout
    return [line for line in lines.splitlines() if f"BINDERY_RUN={folder}" in line and not line.startswith("Z")]


def is_gone(hub: HubStack, user: str) -> bool:
    return hub.server(user) is None


def is_started(hub: HubStack, user: str) -> bool:
    record = ServerFolder(hub.data, f"{user}/").record()
    return record is not None and record.port is not None


def record_of(hub: HubStack, user: str) -> ServerRecord:
    record = ServerFolder(hub.data, f"{user}/").record()
    assert record is not None
    return record


def status_of(hub: HubStack, user: str) -> dict[str, Any]:
    answer = httpx.get(f"{hub.url}/user/{user}/api/status?token=token-of-{user}")
    assert answer.status_code == 200, answer.text
    status: dict[str, Any] = answer.json()
    return status


def last_activity(hub: HubStack, user: str) -> datetime:
    server = hub.server(user)
    assert server is not None
    return datetime.fromisoformat(server["last_activity"])


def kernel_of(hub: HubStack, user: str) -> str:
    url = f"{hub.url}/user/{user}/api/kernels?token=token-of-{user}"
    answer = httpx.post(url, headers={"Origin": hub.url}, timeout=20)
    assert answer.status_code == 201, answer.text
    kernel: str = answer.json()["id"]
    return kernel


def execute(hub: HubStack, user: str, kernel: str, code: str, *, until_type: str) -> None:
    """Run code over a websocket, as a browser does, and leave once a message of `until_type` came."""
    url = f"{hub.url}/user/{user}/api/kernels/{kernel}/channels?token=token-of-{user}".replace("http", "ws", 1)
    content = {"code": code, "silent": False, "store_history": False, "user_expressions": {}, "allow_stdin": False}
    header = {
        "msg_id": "1",
        "msg_type": "execute_request",
        "username": "",
        "session": "s",
        "date": "",
        "version": "5.3",
    }
    message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
    with connect(url, max_size=None, open_timeout=20) as socket:
        socket.send(json.dumps(message))
        while json.loads(socket.recv(timeout=30))["header"]["msg_type"] != until_type:
            pass


def cull(hub: HubStack, timeout_seconds: int) -> None:
    """Let the real idle culler make one pass."""
    env = {**os.environ, "JUPYTERHUB_API_TOKEN": hub.culler_token}
    command = [sys.executable, "-m", "jupyterhub_idle_culler", f"--url={hub.api}", f"--timeout={timeout_seconds}"]
    command += ["--cull-users=true", "--cull-every=1"]
    before = hub.log.read_text().count("(bindery-culler@")
    culler = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: hub.log.read_text().count("(bindery-culler@") >= before + 8, "the culler has made passes")
    finally:
        culler.kill()
        culler.wait()


def idle_seconds(hub: HubStack, user: str) -> float:
    return (datetime.now(UTC) - last_activity(hub, user)).total_seconds()
