"""A real JupyterHub behind a real traefik runs servers from image folders, finds them again and leaves nothing."""

# ruff: noqa: F811 -- pytest finds fixtures by the names of arguments

import asyncio
import os
import signal
import threading
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

import httpx
import pytest

from deploy.jupyterhub.image_folders import ServerFolder
from deploy.jupyterhub.kept_token import OPEN, OTHER_TOKEN
from services.builder.executors.base import Finished
from services.builder.executors.process.executor import ProcessExecutor
from services.builder.executors.process.session.image_folders import in_use
from services.builder.executors.process.session.layout import Layout
from services.builder.executors.process.session.spec import SessionSettings
from services.launcher.hub.failure_patterns import Diagnosis
from tests.support.forge import Forge
from tests.support.hub_fixtures import (
    environment,  # noqa: F401
    execute,
    hub,  # noqa: F401
    is_started,
    kernel_of,
    nothing_is_left,  # noqa: F401
    processes_at,
    record_of,
    status_of,
)
from tests.support.paths import share_packages
from tests.support.polling import eventually
from tests.support.ports import free_ports
from tests.support.real_hub import HUB_PYTHON, HubStack, make_image
from tests.support.sample_builds import attempt_of, collect

OPTIONS = {"repo_url": "https://example.org/r", "binder_request": "v2/git/x", "bindery_installation": "test"}


def test_a_launch_ends_in_a_server_that_takes_its_token(hub: HubStack) -> None:
    events = hub.launch("ann", "plain", **OPTIONS)
    assert events[-1]["ready"] is True
    assert events[-1]["url"] == "/user/ann/"
    assert "Waiting for Jupyter to answer" in [event["message"] for event in events]
    assert httpx.get(f"{hub.url}/user/ann/api?token=token-of-ann").json()["version"]
    assert httpx.get(f"{hub.url}/user/ann/api/status").status_code == 403
    contents = httpx.get(f"{hub.url}/user/ann/api/contents/README.md?token=token-of-ann").json()
    assert contents["content"] == "hello\n"
    server = hub.server("ann")
    assert server is not None
    assert server["user_options"]["bindery_installation"] == "test"


def test_a_server_sees_its_launch_but_neither_secrets_nor_its_token_in_its_arguments(hub: HubStack) -> None:
    hub.serve("bob", "plain", **OPTIONS)
    process = Path(f"/proc/{record_of(hub, 'bob').pid}")
    environment = process.joinpath("environ").read_bytes().decode().split("\0")
    assert "BINDER_REPO_URL=https://example.org/r" in environment
    assert "BINDER_REQUEST=v2/git/x" in environment
    assert sorted(line for line in environment if line.startswith(("BINDERY", "JUPYTERHUB", "JPY"))) == [
        f"BINDERY_RUN={ServerFolder(hub.data, 'bob/').path}",
        "JUPYTERHUB_BASE_URL=/",
        "JUPYTERHUB_SERVICE_PREFIX=/user/bob/",
        "JUPYTERHUB_USER=bob",
    ]
    assert "very-secret" not in str(environment)
    arguments = process.joinpath("cmdline").read_text().split("\0")
    assert "token-of-bob" not in str(arguments)
    assert "--ServerApp.port=0" in arguments
    assert f"JUPYTER_RUNTIME_DIR={ServerFolder(hub.data, 'bob/').runtime}" in environment
    path = next(line for line in environment if line.startswith("PATH="))
    assert f"{HUB_PYTHON.parent}" not in path.split("=")[1].split(":")


def test_only_allowed_origins_may_use_a_server(hub: HubStack) -> None:
    hub.serve("cleo", "plain")
    for origin, allowed in (("https://a.example", True), ("https://b.example", True), ("https://evil.example", False)):
        url = f"{hub.url}/user/cleo/api?token=token-of-cleo"
        answer = httpx.options(url, headers={"Origin": origin})
        assert (answer.headers.get("access-control-allow-origin") == origin) is allowed


@pytest.mark.parametrize("missing", ["token", "image"])
def test_a_launch_without_token_or_image_is_a_400_that_says_so(hub: HubStack, missing: str) -> None:
    options = {"image": "plain", "token": "x"}
    del options[missing]
    answer = hub.refuse_server("dan", **options)
    assert answer.status_code == 400
    assert f"user_options.{missing} is missing" in answer.json()["message"]


def test_a_repositorys_configuration_does_not_open_its_server(hub: HubStack, environment: Path) -> None:
    opened = "c.ServerApp.token = c.IdentityProvider.token = ''"
    script = f"""#!/bin/sh\nmkdir ~/.jupyter\necho "{opened}" >~/.jupyter/jupyter_server_config.py\nexec "$@"\n"""
    make_image(hub.data, "configured", environment, start=script)
    hub.serve("abe", "configured")
    url = f"{hub.url}/user/abe/api/contents"
    assert httpx.get(url).status_code == 403
    assert httpx.get(url, params={"token": "token-of-abe"}).status_code == 200


@pytest.mark.parametrize(("token", "says"), [("", OPEN), ("another", OTHER_TOKEN)])
def test_a_start_script_that_takes_the_token_away_ends_the_launch_and_says_whose_move_it_is(
    hub: HubStack, environment: Path, token: str, says: str
) -> None:
    make_image(hub.data, f"token-{token}", environment, start=f'#!/bin/sh\nJUPYTER_TOKEN={token} exec "$@"\n')
    end = hub.launch("ada", f"token-{token}")[-1]
    assert end["failed"]
    error = Diagnosis().failure(end["message"])
    assert (error.code, error.detail) == ("server_not_protected", says)


def test_a_missing_image_is_reported(hub: HubStack) -> None:
    answer = hub.refuse_server("eve", image="never-built", token="x")
    assert answer.status_code == 400
    assert answer.json()["message"].startswith("image not found: ")


def test_a_killed_hub_finds_its_server_again(hub: HubStack) -> None:
    hub.serve("fay", "plain", **OPTIONS)
    before = record_of(hub, "fay")
    hub.kill_hub()
    assert status_of(hub, "fay")["kernels"] == 0  # the server does not need the hub
    hub.start_hub()
    eventually(lambda: (hub.server("fay") or {}).get("ready"), "the hub knows its server")
    assert record_of(hub, "fay") == before
    status_of(hub, "fay")


def test_a_hub_killed_in_mid_start_adopts_the_server(hub: HubStack, environment: Path, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    start = f'#!/bin/sh\nuntil [ -e {gate} ]; do sleep 0.05; done\nexec "$@"\n'
    make_image(hub.data, "gated-adopted", environment, start=start)
    assert hub.request_server("gus", image="gated-adopted", token="token-of-gus").status_code in (201, 202)
    eventually(partial(is_started, hub, "gus"), "the server's process is there")
    before = record_of(hub, "gus")
    hub.kill_hub()
    gate.touch()
    hub.start_hub()
    eventually(lambda: (hub.server("gus") or {}).get("ready"), "the hub has adopted the server")
    assert record_of(hub, "gus") == replace(before, port=record_of(hub, "gus").port)
    assert (before.port, record_of(hub, "gus").port) != (0, 0)
    eventually(lambda: httpx.get(f"{hub.url}/user/gus/api?token=token-of-gus").status_code == 200, "it is routed")


def test_a_leftover_is_ended_before_its_server_starts_again(hub: HubStack, environment: Path, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    make_image(hub.data, "gated-leftover", environment, start=f'#!/bin/sh\n[ -e {gate} ] && exec "$@"\nsleep 1000\n')
    assert hub.request_server("hal", image="gated-leftover", token="token-of-hal").status_code in (201, 202)
    eventually(partial(is_started, hub, "hal"), "the server's process is there")
    leftover = record_of(hub, "hal")
    hub.kill_hub()
    # As if the hub had died between starting the process and writing it down: only BINDERY_RUN tells of it.
    ServerFolder(hub.data, "hal/").record_path.unlink()
    hub.start_hub()
    gate.touch()
    answer = hub.call("POST", "users/hal/server", json={"image": "gated-leftover", "token": "token-of-hal"})
    assert answer.status_code in (201, 202), answer.text
    assert list(hub.progress("hal"))[-1]["ready"] is True
    assert not leftover.process.is_alive
    (hub.data / "run" / "processes" / f"{leftover.pid}.json").unlink(missing_ok=True)


def test_stopping_leaves_neither_kernel_nor_terminal_nor_folder(hub: HubStack) -> None:
    hub.serve("ida", "plain")
    kernel = kernel_of(hub, "ida")
    code = "import subprocess; subprocess.Popen(['sleep', '1000'], start_new_session=True)"
    execute(hub, "ida", kernel, code, until_type="execute_reply")
    assert len(processes_at(hub.data / "servers")) >= 3
    assert hub.call("DELETE", "users/ida/server").status_code in (202, 204)
    eventually(lambda: hub.server("ida") is None, "the server is gone")
    assert processes_at(hub.data / "servers") == []


def test_a_server_that_dies_is_noticed_and_cleaned_up(hub: HubStack) -> None:
    hub.serve("jan", "plain")
    kernel_of(hub, "jan")
    os.kill(record_of(hub, "jan").pid, signal.SIGKILL)
    eventually(lambda: hub.server("jan") is None, "the hub has noticed")
    eventually(lambda: processes_at(hub.data / "servers") == [], "its kernel is gone")


def test_a_server_that_ends_at_once_fails_with_its_last_lines(hub: HubStack, environment: Path) -> None:
    make_image(hub.data, "broken", environment, start="#!/bin/sh\necho this is why\nexit 3\n")
    message = hub.failure_of_server("kim", image="broken", token="x")
    assert "ended with exit status 3" in message
    assert "this is why" in message


def test_a_cancelled_start_leaves_nothing(hub: HubStack, environment: Path) -> None:
    make_image(hub.data, "sleeping", environment, start="#!/bin/sh\nsleep 1000\n")
    assert hub.request_server("lea", image="sleeping", token="x").status_code in (201, 202)
    eventually(lambda: processes_at(hub.data / "servers"), "the server's process is there")
    assert hub.call("DELETE", "users/lea/server").status_code in (202, 204)
    eventually(lambda: processes_at(hub.data / "servers") == [], "its processes are gone")


def test_nobody_can_log_in(hub: HubStack) -> None:
    assert httpx.get(f"{hub.url}/hub/login", follow_redirects=True).status_code == 403
    assert httpx.get(f"{hub.url}/hub/api/users").status_code == 403


def test_the_launcher_has_the_scopes_it_needs_and_the_culler_its_own(hub: HubStack) -> None:
    assert hub.call("GET", "users").status_code == 200
    assert hub.call("GET", "info").status_code == 403
    assert hub.call("POST", "shutdown").status_code == 403
    assert hub.call("GET", "users", token=hub.culler_token).status_code == 200
    assert hub.call("POST", "users/max", token=hub.culler_token).status_code == 403


def test_an_image_that_the_builder_built_is_served_with_its_requirements(hub: HubStack, tmp_path: Path) -> None:
    share_packages(hub.data)
    settings = SessionSettings(base_packages=("jupyterlab", "ipykernel"), allowed_networks=("127.0.0.0/8",))
    script = "#!/bin/sh\nmkdir -p ~/.ipython && echo made > ~/made-by-postBuild\n"
    start = '#!/bin/sh\nexport FROM_START=yes\nexec "$@"\n'
    with Forge(tmp_path / "served") as forge:
        files = {"binder/requirements.txt": "six\n", "binder/postBuild": script, "binder/start": start, "a.md": "a"}
        attempt = attempt_of(f"{forge.url}/org/repo", forge.create_repo("org", "repo", dict(files)))
        executor = ProcessExecutor(hub.data, settings)
        asyncio.run(executor.ensure(attempt))
        messages, _, outcome = asyncio.run(collect(executor.follow(attempt, "")))
    assert outcome == Finished(ok=True), messages
    hub.serve("vic", attempt.image)
    gate = tmp_path / "imported"
    code = (
        f"import os, six; open({str(gate)!r}, 'w').write(os.environ['FROM_START'] + os.environ['HOME'] + os.getcwd())"
    )
    execute(hub, "vic", kernel_of(hub, "vic"), code, until_type="execute_reply")
    repo = Layout(hub.data).image(attempt.build_id).repo
    assert gate.read_text() == f"yes{repo}{repo}"
    assert (repo / "made-by-postBuild").is_file()
    assert in_use(Layout(hub.data)) == {attempt.build_id}
    assert Layout(hub.data).image(attempt.build_id).launched_at() is not None
    asyncio.run(executor.remove(attempt.build_id))


class Squatter(ThreadingHTTPServer):
    """Another user's program, which answers whoever asks."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.paths: list[str] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class Answers(BaseHTTPRequestHandler):
    server: Squatter

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        self.send_response(200)
        self.end_headers()


SQUATTED = """#!/bin/sh
# What a Jupyter Server does that lost its port after it had written it down.
echo '{"pid": '$$', "port": PORT}' > "$JUPYTER_RUNTIME_DIR/jpserver-$$.json"
sleep 1000
"""


def test_a_port_that_another_process_listens_at_is_never_taken_for_the_server_s(
    tmp_path: Path, environment: Path
) -> None:
    with Squatter() as squatter:
        hub = HubStack(tmp_path / "hub", BINDERY_SERVER_START_TIMEOUT_SECONDS="2")
        hub.start()
        make_image(hub.data, "squatted", environment, start=SQUATTED.replace("PORT", str(squatter.server_port)))
        events = hub.launch("tim", "squatted")
        hub.stop()
    assert events[-1]["failed"] is True
    assert "did not answer within 2 seconds" in events[-1]["message"]
    assert squatter.paths == []


def test_a_server_whose_port_was_taken_first_is_started_again(hub: HubStack, environment: Path, tmp_path: Path) -> None:
    gate = tmp_path / "tried"
    start = f'#!/bin/sh\n[ -e {gate} ] && exec "$@"\ntouch {gate}\necho "The port 4711 is already in use."\nexit 1\n'
    make_image(hub.data, "unlucky", environment, start=start)
    hub.serve("uma", "unlucky")
    status_of(hub, "uma")


def test_a_server_whose_port_is_always_taken_fails_with_its_last_lines(hub: HubStack, environment: Path) -> None:
    start = '#!/bin/sh\necho "The port 4711 is already in use."\nexit 1\n'
    make_image(hub.data, "unluckiest", environment, start=start)
    message = hub.failure_of_server("una", image="unluckiest", token="x")
    assert "ended with exit status 1 before it answered" in message
    assert "The port 4711 is already in use." in message


OF_ANOTHER_KIND = {
    "become": "exec python3 -m http.server --bind 127.0.0.1 0",
    "start-and-write-down": (
        "python3 -m http.server --bind 127.0.0.1 PORT &\n"
        'echo \'{"pid": \'$!\', "port": PORT}\' > "$JUPYTER_RUNTIME_DIR/jpserver-$!.json"\nwait'
    ),
    "not-say-its-port": (  # as Jupyter Server 1 and Notebook 6 do
        "python3 -m http.server --bind 127.0.0.1 0 &\n"
        'echo \'{"pid": \'$!\', "port": 0}\' > "$JUPYTER_RUNTIME_DIR/nbserver-$!.json"\nwait'
    ),
}


@pytest.mark.parametrize("way", OF_ANOTHER_KIND)
def test_a_start_script_may_serve_something_else(hub: HubStack, environment: Path, way: str) -> None:
    page = "mkdir -p user/ugo && printf 'of another kind' > user/ugo/page"
    start = f"#!/bin/sh\n{page}\n{OF_ANOTHER_KIND[way]}\n".replace("PORT", str(free_ports(1, avoid=set())[0]))
    make_image(hub.data, way, environment, start=start)
    hub.serve("ugo", way)
    assert httpx.get(f"{hub.url}/user/ugo/page").text == "of another kind"


def test_a_server_that_never_answers_fails_in_time(tmp_path: Path, environment: Path) -> None:
    hub = HubStack(tmp_path / "hub", BINDERY_SERVER_START_TIMEOUT_SECONDS="2")
    hub.start()
    make_image(hub.data, "silent", environment, start="#!/bin/sh\necho still thinking\nsleep 1000\n")
    events = hub.launch("tom", "silent")
    hub.stop()
    assert events[-1]["failed"] is True
    assert "did not answer within 2 seconds" in events[-1]["message"]
    assert "still thinking" in events[-1]["message"]
    assert processes_at(hub.data / "servers") == []
