"""The probe of a container: what it asks, what it prints, and how it exits."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from services.common.probe import main
from services.common.service.health import Health
from services.common.service.settings import ServiceSettings
from services.common.web.app import create_service
from services.common.web.listening import bind_unix
from tests.support.paths import CHECKOUT
from tests.support.polling import eventually
from tests.support.ports import free_ports
from tests.support.serving import Serving, serving
from tests.support.settings import settings_for

TOKEN = "t" * 32
SENTENCE = "it refuses our token: set BINDERY_HUB_API_TOKEN"


def service(problem: str | None) -> FastAPI:
    """A service with one check, that fails with a sentence or does not."""

    async def check() -> str | None:
        return problem

    health = Health(interval_seconds=0.05)
    health.add("JupyterHub", check)
    return create_service(settings_for(ServiceSettings, {"service_token": TOKEN}), name="test", health=health)


@contextmanager
def probed(problem: str | None, **environment: str) -> Iterator[tuple[Serving, dict[str, str]]]:
    """Serve a service, and give the environment that its container has."""
    with serving(service(problem)) as server:
        yield server, {"BINDERY_LISTEN_HOST": "127.0.0.1", "BINDERY_LISTEN_PORT": str(server.port)} | environment


def test_a_service_that_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    with probed(None, BINDERY_SERVICE_TOKEN=TOKEN) as (_, environment):
        eventually(lambda: main([], environment) == 0, "it is well")
        capsys.readouterr()
        assert main([], environment) == 0
        assert capsys.readouterr().out == ""


def test_what_is_wrong_is_said_in_full_to_its_own_container(capsys: pytest.CaptureFixture[str]) -> None:
    with probed(SENTENCE, BINDERY_SERVICE_TOKEN=TOKEN) as (_, environment):
        eventually(lambda: main([], environment) == 1 and SENTENCE in capsys.readouterr().out, "it is checked")
        assert main([], environment) == 1
        assert capsys.readouterr().out.endswith(f"JupyterHub: {SENTENCE}\n")


def test_without_the_token_only_the_check_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with probed(SENTENCE) as (_, environment):
        eventually(lambda: main([], environment) and "does not work" in capsys.readouterr().out, "it is checked")
        main([], environment)
        assert SENTENCE not in capsys.readouterr().out


@pytest.mark.parametrize("host", ["0.0.0.0", ""])  # noqa: S104
def test_a_service_on_all_addresses_is_asked_at_loopback(host: str) -> None:
    with probed(None) as (_, environment):
        eventually(lambda: main([], environment | {"BINDERY_LISTEN_HOST": host}) == 0, "it is well")


def test_another_path(capsys: pytest.CaptureFixture[str]) -> None:
    with probed(SENTENCE) as (server, _):
        assert main([f"http://127.0.0.1:{server.port}/livez"], {}) == 0
        assert main([f"http://127.0.0.1:{server.port}/nothing"], {}) == 1
        assert capsys.readouterr().out.endswith("It answers 401.\n")


@pytest.mark.parametrize("is_named", [False, True])
def test_the_token_is_sent_to_the_services_own_address_alone(is_named: bool) -> None:
    received: list[bytes | None] = []

    async def listen(scope: Scope, _receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            received.append(dict(scope["headers"]).get(b"authorization"))
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})

    with serving(listen) as server:
        environment = {"BINDERY_LISTEN_PORT": str(server.port), "BINDERY_SERVICE_TOKEN": TOKEN}
        assert main([f"http://127.0.0.1:{server.port}/x"] if is_named else ["/x"], environment) == 0
    assert received == [None if is_named else f"Bearer {TOKEN}".encode()]


def test_nothing_listens(capsys: pytest.CaptureFixture[str]) -> None:
    (port,) = free_ports(1, set())
    assert main([], {"BINDERY_LISTEN_PORT": str(port)}) == 1
    assert capsys.readouterr().out == "The service does not answer (ConnectionRefusedError): its log says why.\n"


def test_a_port_that_makes_no_sense_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([], {"BINDERY_LISTEN_PORT": "none"}) == 1
    assert capsys.readouterr().out.endswith("correct BINDERY_LISTEN_PORT, or the URL.\n")


def test_a_service_that_hangs_is_given_up(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("s") / "service"
    with bind_unix(path):
        assert main(["--timeout", "0.1"], {"BINDERY_LISTEN_SOCKET": str(path)}) == 1


def test_as_a_container_runs_it() -> None:
    command = [sys.executable, "-m", "services.common.probe"]
    result = subprocess.run(
        command, env={"BINDERY_LISTEN_PORT": "1"}, cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (1, "")
    assert result.stdout.startswith("The service does not answer")
