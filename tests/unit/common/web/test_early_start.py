"""A service that can't start yet, or never: it listens, says why, and goes on or ends with exit status 1."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from redis import Redis
from redis.exceptions import RedisError

from deploy.local.redis import redis_binary
from services.common.probe import main as probe
from services.common.service.tasks import CANCEL_AGAIN_SECONDS
from services.common.web.early_start import EarlyStart
from tests.support.paths import CHECKOUT
from tests.support.polling import eventually
from tests.support.ports import free_ports
from tests.support.starting_service import SECRETS, SERVICES, TOKEN, starting
from tests.support.valkey import PASSWORD, Valkey, running_valkey

pytestmark = pytest.mark.slow


@pytest.fixture
def sockets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("s")


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_listens_and_says_so_while_it_waits_for_redis_and_then_goes_on(
    service: str, tmp_path: Path, sockets: Path
) -> None:
    with running_valkey(tmp_path) as valkey:
        valkey.kill()
        user = service.rpartition(".")[2]
        with starting(service, tmp_path, sockets, redis_url=valkey.url_of(user)) as process:
            eventually(lambda: "Redis" in process.start_problem(), "it waits for Redis")
            problem = process.start_problem()
            assert problem.startswith(f"Redis at {valkey.socket} does not answer (")
            assert problem.endswith("start it, or name it in BINDERY_REDIS_URL.")
            assert process.status("/livez") == 200
            assert process.status("/readyz") == 503

            refused = process.get("/builds/x")
            assert refused
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
            assert refused.json()["code"] in {"gateway_unavailable", "builder_unavailable", "launcher_unavailable"}
            for path in ("/health", "/readyz"):
                in_public = process.get(path, token="")
                assert in_public
                assert str(valkey.socket) not in in_public.text

            valkey.start()
            eventually(lambda: process.status("/readyz") == 200, "it has started")
            assert process.start_problem() == ""
            assert len(process.lines("start_waits")) == 1
            assert len(process.lines("started")) == 1
            assert process.status("/builds/x") in {401, 404, 422}


def test_a_request_that_comes_during_a_start_waits_for_its_end(tmp_path: Path, sockets: Path) -> None:
    with running_valkey(tmp_path) as valkey, ThreadPoolExecutor() as pool:
        valkey.kill()
        url = valkey.url_of("builder")
        with starting("builder", tmp_path, sockets, redis_url=url, start_hold_seconds=3600) as process:
            eventually(lambda: process.lines("start_waits"), "it waits")
            answer = pool.submit(process.status, "/builds/x")
            eventually(lambda: process.status("/livez") == 200, "it answers others meanwhile")
            assert not answer.done()
            valkey.start()
            assert answer.result(30) == 404


def test_the_page_of_a_gateway_that_starts_is_a_page(tmp_path: Path, sockets: Path) -> None:
    with starting("gateway", tmp_path, sockets, redis_url=f"unix://{tmp_path}/none") as process:
        eventually(process.start_problem, "it starts")
        page = process.get("/", token="", accept="text/html")
        assert page
        assert page.status_code == 503
        assert page.headers["content-type"].startswith("text/html")
        assert "The gateway has not started yet: please try again in a moment." in page.text
        assert page.headers["retry-after"] == "2"

        stream = process.get("/build/gh/owner/repo/HEAD", token="", accept="text/event-stream")
        assert stream
        assert (stream.status_code, stream.headers["content-type"]) == (200, "text/event-stream")
        event = json.loads(stream.text.removeprefix("data: "))
        assert (event["phase"], event["status_code"]) == ("failed", 503)


def test_a_login_that_redis_refuses_is_waited_for_as_acl_load_may_mend_it(
    own_valkey: Valkey, tmp_path: Path, sockets: Path
) -> None:
    url = own_valkey.url_of("launcher").replace(PASSWORD, "another")
    with starting("launcher", tmp_path, sockets, redis_url=url) as process:
        eventually(lambda: "refuses the user or the password in BINDERY_REDIS_URL" in process.start_problem(), "why")
        assert "another" not in process.output.read_text()
        with Redis.from_url(own_valkey.url) as admin:
            admin.execute_command("ACL", "SETUSER", "bindery-launcher", ">another")
        eventually(lambda: process.status("/readyz") == 200, "it has started")
        assert len(process.lines("start_waits")) == 1


def test_a_right_that_is_missing_is_waited_for_too(own_valkey: Valkey, tmp_path: Path, sockets: Path) -> None:
    with Redis.from_url(own_valkey.url) as admin:
        admin.execute_command("ACL", "SETUSER", "bindery-builder", "-info")
        with starting("builder", tmp_path, sockets, redis_url=own_valkey.url_of("builder")) as process:
            eventually(lambda: "does not let its user 'bindery-builder' do this" in process.start_problem(), "why")
            admin.execute_command("ACL", "SETUSER", "bindery-builder", "+info")
            eventually(lambda: process.status("/readyz") == 200, "it has started")


def test_a_redis_that_asks_for_a_password_that_the_url_lacks(own_valkey: Valkey, tmp_path: Path, sockets: Path) -> None:
    with starting("builder", tmp_path, sockets, redis_url=f"unix://{own_valkey.socket}?db=0") as process:
        eventually(lambda: "asks for a password, and BINDERY_REDIS_URL has none" in process.start_problem(), "why")


@contextlib.contextmanager
def open_redis(*arguments: str) -> Iterator[int]:
    """Run a Redis without users and without a password, and give its port."""
    (port,) = free_ports(1, set())
    command = [str(redis_binary()), "--port", str(port), "--save", "", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        with Redis(port=port) as client:
            eventually(lambda: _answers(client), "Redis answers")
        yield port
    finally:
        process.kill()
        process.wait()


def _answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except RedisError:
        return False


def test_a_redis_without_the_password_that_the_url_has(tmp_path: Path, sockets: Path) -> None:
    with (
        open_redis() as port,
        starting("builder", tmp_path, sockets, redis_url=f"redis://:{PASSWORD}@127.0.0.1:{port}/0") as process,
    ):
        eventually(lambda: "has no users and no password: give it its file" in process.start_problem(), "why")
        assert PASSWORD not in process.output.read_text()


def test_a_service_that_waits_ends_well_when_it_is_asked_to(tmp_path: Path, sockets: Path) -> None:
    with starting("gateway", tmp_path, sockets, redis_url=f"unix://{tmp_path}/none") as process:
        eventually(lambda: process.lines("start_waits"), "it waits")
        process.process.send_signal(signal.SIGTERM)
        assert process.exit_status() == 0


def test_an_address_of_redis_that_makes_no_sense_ends_the_process_with_one_sentence(
    tmp_path: Path, sockets: Path
) -> None:
    with starting("gateway", tmp_path, sockets, redis_url=f"redis://:{PASSWORD}@[::1/0") as process:
        assert process.exit_status() == 1
        (line,) = process.lines("start_refused")
        assert line["reason"].startswith("BINDERY_REDIS_URL makes no sense")
        output = process.output.read_text()
        assert "Traceback" not in output
        assert PASSWORD not in output


def test_an_executor_that_does_not_exist_ends_the_builder_with_one_sentence(
    valkey: Valkey, tmp_path: Path, sockets: Path
) -> None:
    with starting("builder", tmp_path, sockets, redis_url=valkey.url, executor="podman") as process:
        assert process.exit_status() == 1
        (line,) = process.lines("start_refused")
        assert line["reason"].startswith("BINDERY_EXECUTOR is 'podman'; there are: ")
        assert "Traceback" not in process.output.read_text()


def test_a_resolver_without_git_ends_with_one_sentence(tmp_path: Path, sockets: Path) -> None:
    with starting("resolver", tmp_path, sockets, PATH=str(tmp_path)) as process:
        assert process.exit_status() == 1
        (line,) = process.lines("start_refused")
        assert line["reason"] == "The resolver can't start: git is not installed: install git 2.37 or later."
        assert "Traceback" not in process.output.read_text()


@pytest.mark.parametrize(
    ("text", "variables", "sentence"),
    [
        ("", {"banned_specs": "{sesame"}, "The settings make no sense: BINDERY_BANNED_SPECS: it is no JSON."),
        (
            "sesame\n",
            {},
            "The file that BINDERY_CONFIG_FILE names makes no sense: it must have lines such as `seats_total: 20`.",
        ),
        (
            "redis_url: [sesame]]\n",
            {},
            "The file that BINDERY_CONFIG_FILE names is no YAML: expected <block end>, but found ']' in line 1.",
        ),
    ],
)
def test_settings_that_can_not_be_read_are_one_sentence_too(
    text: str, variables: dict[str, str], sentence: str, tmp_path: Path, sockets: Path
) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    with starting("resolver", tmp_path, sockets, config_file=file, **variables) as process:
        assert process.exit_status() == 1
        assert process.output.read_text() == f"{sentence}\n"


def test_settings_that_make_no_sense_are_named_in_one_sentence_without_their_values(
    tmp_path: Path, sockets: Path
) -> None:
    with starting("launcher", tmp_path, sockets, listen_port="none-of-yours", seats_total="many") as process:
        assert process.exit_status() == 1
        (line,) = process.output.read_text().splitlines()
    assert line.startswith("The settings make no sense: BINDERY_LISTEN_PORT: Input should be a valid integer")
    assert "; BINDERY_SEATS_TOTAL: " in line
    assert "none-of-yours" not in line


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"service_token": ""}, "The launcher can't start: set BINDERY_SERVICE_TOKEN to a secret of your own"),
        ({"seats_total": "many"}, "The settings make no sense: BINDERY_SEATS_TOTAL: "),
        (
            {"log_level": "loud"},
            "The settings make no sense: BINDERY_LOG_LEVEL: set it to debug, info, warning or error.",
        ),
        ({"http_head_max_bytes": "many"}, "The settings make no sense: BINDERY_HTTP_HEAD_MAX_BYTES: "),
        ({"redis_url": "redis://:p@[::1/0"}, "BINDERY_REDIS_URL makes no sense"),
    ],
)
def test_a_container_shows_for_a_while_why_its_service_can_not_start(
    variables: dict[str, str], sentence: str, tmp_path: Path, sockets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A container that only restarts has no health."""
    (port,) = free_ports(1, set())
    own = {"listen_host": "127.0.0.1", "listen_port": port, "start_problem_shown_seconds": 3600, "listen_socket": ""}
    own["service_token"] = f"{TOKEN}\n"  # as a file's
    with starting("launcher", tmp_path, sockets, **own | variables) as process:
        address = {"BINDERY_LISTEN_PORT": str(port), "BINDERY_SERVICE_TOKEN": TOKEN}
        eventually(lambda: probe([], address) and sentence in capsys.readouterr().out, f"health says {sentence}")
        assert len(process.lines("start_refused")) == 1
        assert probe(["/livez"], address) == 0
        capsys.readouterr()
        assert probe([], {"BINDERY_LISTEN_PORT": str(port)}) == 1
        assert (sentence in capsys.readouterr().out) == (variables == {"service_token": ""})
        process.process.terminate()
        assert process.exit_status() == 1


@pytest.mark.parametrize("shown_seconds", [0.2, 0.0])
def test_it_is_shown_for_as_long_as_the_setting_says(shown_seconds: float, tmp_path: Path, sockets: Path) -> None:
    with starting(
        "launcher", tmp_path, sockets, service_token="", start_problem_shown_seconds=shown_seconds
    ) as process:
        assert process.exit_status() == 1
        assert bool(process.lines("listening")) == (shown_seconds > 0)


BROKEN_SETUP = """
from services.common.service.settings import ServiceSettings
from services.common.web.serve import run_service

def create_app(settings):
    raise LookupError("sesame")

run_service(ServiceSettings, create_app, service="test")
"""
BROKEN_START = """
import contextlib
from fastapi import FastAPI
from services.common.service.settings import ServiceSettings
from services.common.web.serve import run_service

@contextlib.asynccontextmanager
async def break_at_once(app):
    raise LookupError("sesame")
    yield

run_service(ServiceSettings, lambda settings: FastAPI(lifespan=break_at_once), service="test")
"""


@pytest.mark.parametrize("shown_seconds", ["3600", "0"])
@pytest.mark.parametrize(("script", "function"), [(BROKEN_SETUP, "create_app"), (BROKEN_START, "break_at_once")])
def test_a_start_that_fails_as_nobody_foresaw_is_logged_and_ends_the_process_at_once(
    script: str, function: str, shown_seconds: str
) -> None:
    """Its supervisor starts it again; what nobody foresaw may have passed by then."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("BINDERY_")}
    result = subprocess.run(
        [sys.executable, "-c", script], env=environ | {"BINDERY_START_PROBLEM_SHOWN_SECONDS": shown_seconds},
        cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert result.returncode == 1
    output = result.stdout + result.stderr
    assert "LookupError" in output
    assert f"in {function}" in output  # the traceback
    assert ("start_failed" in output) == (script == BROKEN_START)


def test_a_port_in_use_is_said_in_one_sentence(tmp_path: Path) -> None:
    with open_redis() as port:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("BINDERY_")} | SECRETS
        result = subprocess.run(
            [sys.executable, "-m", "services.resolver"], env=environ | {"BINDERY_LISTEN_PORT": str(port)},
            cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert result.returncode == 1
    assert result.stderr == (
        f"Port {port} of 127.0.0.1 is in use: end the process that listens there, or set BINDERY_LISTEN_PORT to "
        "another one.\n"
    )


async def test_a_start_that_is_interrupted_has_time_to_give_back_what_it_has_taken() -> None:
    handed_over = asyncio.Event()

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        try:
            await asyncio.Event().wait()
            yield
        finally:
            await asyncio.sleep(1.5 * CANCEL_AGAIN_SECONDS)
            handed_over.set()

    sent: list[str] = []

    async def receive() -> dict[str, str]:
        await asyncio.sleep(0.01)  # the application's start begins
        return {"type": "lifespan"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message["type"])

    await EarlyStart(FastAPI(lifespan=lifespan), shown_seconds=0, end_seconds=60)({"type": "lifespan"}, receive, send)
    assert handed_over.is_set()
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
