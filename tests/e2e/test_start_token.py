"""The start token of `make up`: another user of the machine, a browser, a program, and what the servers see of it."""

import json
import os
import re
import subprocess
import sys
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support.api_launches import git_spec
from tests.support.forge import Forge
from tests.support.paths import CHECKOUT
from tests.support.polling import eventually
from tests.support.stack import Stack

ORG = "start-token"
STREAM = {"Accept": "text/event-stream"}


@pytest.fixture(scope="module")
def demo(forge: Forge) -> str:
    forge.create_repo(ORG, "demo", {"data.txt": "x"})
    return git_spec(f"{forge.url}/{ORG}/demo")


def test_another_user_of_the_machine_starts_and_reads_nothing(stack: Stack, demo: str) -> None:
    launch_id = stack.create(demo, detached=True)["launch_id"]
    before = stack.sessions(), len(stack.redis_keys())
    body = {"provider": "git", "spec": demo}
    with httpx.Client(base_url=stack.url, trust_env=False, timeout=60) as another_user:
        refused = [
            another_user.post("/api/v1/launches", json=body),
            another_user.post("/api/v1/builds", json=body),
            another_user.get(f"/api/v1/launches/{launch_id}"),
            another_user.get(f"/api/v1/launches/{launch_id}/events"),
            another_user.get(f"/launches/{launch_id}/open"),
            another_user.delete(f"/api/v1/launches/{launch_id}"),
            another_user.get("/metrics"),
        ]
        for reply in refused:
            assert (reply.status_code, reply.json()["code"]) == (401, "start_token_required")
            assert "Open the address that `make up` printed" in reply.json()["detail"]
        stream_reply = another_user.get(f"/build/git/{demo}", headers=STREAM)
        event = json.loads(stream_reply.text.removeprefix("data: "))
        assert (event["phase"], event["status_code"]) == ("failed", 401)
        page = another_user.get(f"/v2/git/{demo}", headers={"Accept": "text/html"})
        assert (page.status_code, "Open the address that <code>make up</code> printed" in page.text) == (401, True)
        for path in ("/health", "/versions", "/badge_logo.svg"):
            assert another_user.get(path).status_code == 200
    assert stack.follow(launch_id).outcome()["phase"] == "ready"
    assert before[0] <= stack.sessions()
    assert len([session for session in stack.sessions() if session.startswith("server")]) == 1


def test_a_browser_is_let_in_by_the_printed_address_and_its_cookies_reach_no_server(stack: Stack, demo: str) -> None:
    (address,) = re.findall(r"Bindery is ready: (\S+)", stack.log())
    with httpx.Client(trust_env=False, timeout=60, follow_redirects=True) as browser:
        browser.get(address)
        page = browser.get(f"{stack.url}/v2/git/{demo}")
        form = dict(re.findall(r'name="(\w+)" value="([^"]*)"', page.text))
        launch = browser.post(f"{stack.url}/launches", data=form).url
        assert stack.follow(launch.path.rpartition("/")[2]).outcome()["phase"] == "ready"
        names = {cookie.name for cookie in browser.cookies.jar}
        assert "bindery_session" in names
        assert any(name.startswith("bindery_start_") for name in names)
        opened_page = browser.get(f"{launch}/open")
    assert (opened_page.status_code, opened_page.json()["cookie"]) == (200, "")
    assert urlsplit(stack.url).hostname == "127.0.0.1"
    assert opened_page.url.host == "localhost"
    assert opened_page.url.port != stack.port


def test_a_client_without_headers_sends_the_token_as_build_token(stack: Stack, demo: str) -> None:
    address = f"{stack.url}/build/git/{demo}?build_token={stack.start_token}"
    with (
        httpx.Client(trust_env=False, timeout=60) as event_source,
        event_source.stream("GET", address, headers=STREAM) as reply,
    ):
        events = (json.loads(line[5:]) for line in reply.iter_lines() if line.startswith("data:"))
        last = next(event for event in events if event["phase"] in {"ready", "failed"})
    assert last["phase"] == "ready", last


def test_the_command_line_reads_the_token_from_the_data_folder(stack: Stack) -> None:
    command = [sys.executable, "-m", "bindery", "queue", "--gateway", stack.url]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("BINDERY_")}

    def run(**variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=CHECKOUT, env=environ | variables, capture_output=True, text=True, check=False, timeout=60
        )  # fmt: skip

    assert run(BINDERY_DATA_DIR=str(stack.data_dir)).stdout.startswith("waiting  0")
    assert run(BINDERY_START_TOKEN=stack.start_token).stdout.startswith("waiting  0")
    for process in (run(), run(BINDERY_START_TOKEN="of-an-earlier-start")):
        assert process.returncode == 1
        assert "Open the address that `make up` printed" in process.stderr
        assert "BINDERY_DATA_DIR names the data folder" in process.stderr
        assert process.stderr.rstrip().endswith("[start_token_required]")


def test_no_log_has_the_token_nor_a_session(stack: Stack, demo: str) -> None:
    token = stack.start_token
    with httpx.Client(base_url=stack.url, trust_env=False, timeout=60) as client:
        session = client.get(f"/?token={token}").headers["set-cookie"].partition("=")[2].partition(";")[0]
        client.get(f"/no-such-page?token={token}&token=another-one-altogether")
        client.get("/no-such-page")
        client.get(f"/no-such-page/{'x' * 40}", headers={"Authorization": f"Bearer {token}"})
        client.get(f"/build/no/such?build_token={token}", headers=STREAM)
        client.get(f"/api/v1/nothing?token={token}")
        client.post("/api/v1/launches", content=b"{", headers={"Authorization": f"Bearer {token}"})
    # The gateway writes a line about each request that passes, in their order.
    eventually(lambda: f"/no-such-page/{'x' * 40}" in stack.part_log("gateway"), "the requests in the log")
    for log in (stack.data_dir / "logs").iterdir():
        text = log.read_text(errors="replace")
        assert token not in text
        assert session not in text
