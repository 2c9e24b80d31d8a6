"""What our own hub lacks is said in one sentence, before anything of it starts."""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from deploy.jupyterhub.start_checks import start_problem
from tests.support.paths import CHECKOUT
from tests.support.polling import eventually
from tests.support.ports import free_ports

WHOLE = {
    "BINDERY_HUB_API_TOKEN": "t" * 32,
    "BINDERY_PROXY_API_PASSWORD": "p" * 32,
    "BINDERY_PROXY_API_USERNAME": "bindery",
    "BINDERY_PROXY_API_URL": "http://127.0.0.1:8099",
    "BINDERY_PROXY_RULES_FILE": "/tmp/rules.yaml",
    "BINDERY_HUB_BIND_URL": "http://127.0.0.1:8000",
    "BINDERY_HUB_PORT": "8081",
}


def test_a_whole_environment_will_do() -> None:
    assert start_problem(WHOLE) == ""


@pytest.mark.parametrize("name", WHOLE)
def test_a_variable_that_is_missing_or_empty_is_named(name: str) -> None:
    for environ in ({key: value for key, value in WHOLE.items() if key != name}, WHOLE | {name: ""}):
        assert start_problem(environ).startswith(f"The hub can't start: set {name} to ")


@pytest.mark.parametrize(
    ("name", "values", "meaning"),
    [
        ("BINDERY_HUB_DB_TIMEOUT_SECONDS", ["", "0", "2.5"], "a whole number above 0"),
        ("BINDERY_HUB_DB_WAIT_SECONDS", ["", "0", "-1"], "a number above 0"),
        ("BINDERY_SERVER_CONNECT_SECONDS", ["", "0", "-1", "3s", "nan", "inf"], "a number above 0"),
        ("BINDERY_SERVER_START_TIMEOUT_SECONDS", ["", "0"], "a number above 0"),
        ("BINDERY_SERVER_START_MAX_SECONDS", ["", "0"], "a number above 0"),
        ("BINDERY_SERVER_POLL_SECONDS", ["", "0", "0.5"], "a whole number above 0"),
        ("BINDERY_CULL_EVERY_SECONDS", ["", "0"], "a whole number above 0"),
        ("BINDERY_IDLE_TIMEOUT_SECONDS", ["", "-1"], "a number, or 0 for no limit"),
        ("BINDERY_MAX_AGE_SECONDS", ["", "1h"], "a number, or 0 for no limit"),
        ("BINDERY_CONCURRENT_SPAWN_LIMIT", ["", "-1"], "a whole number, or 0 for no limit"),
    ],
)
def test_a_number_that_makes_no_sense_is_named(name: str, values: list[str], meaning: str) -> None:
    sentence = f"The hub can't start: set {name} to {meaning}, or unset it for the default."
    assert [start_problem(WHOLE | {name: value}) for value in values] == [sentence] * len(values)


def test_numbers_that_make_sense_will_do() -> None:
    none = dict.fromkeys(("IDLE_TIMEOUT_SECONDS", "MAX_AGE_SECONDS", "CONCURRENT_SPAWN_LIMIT"), "0")
    some = {"SERVER_CONNECT_SECONDS": "0.5", "SERVER_START_TIMEOUT_SECONDS": "90.5", "SERVER_POLL_SECONDS": "1"}
    assert start_problem(WHOLE | {f"BINDERY_{name}": value for name, value in (none | some).items()}) == ""


@pytest.mark.slow
def test_the_hub_itself_ends_with_the_sentence_and_nothing_else(tmp_path: Path) -> None:
    config = CHECKOUT / "deploy" / "jupyterhub" / "jupyterhub_config.py"
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)} | WHOLE
    del environ["BINDERY_HUB_API_TOKEN"]
    result = subprocess.run(
        [sys.executable, "-m", "jupyterhub", "-f", str(config)], env=environ, cwd=tmp_path,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert result.stderr.splitlines()[-1] == (
        "The hub can't start: set BINDERY_HUB_API_TOKEN to a secret of your own, the same for the launcher."
    )


@pytest.mark.slow
def test_a_hub_that_can_not_start_tells_its_own_probe_why_and_ends_when_it_is_asked_to(tmp_path: Path) -> None:
    config = CHECKOUT / "deploy" / "jupyterhub" / "jupyterhub_config.py"
    [port] = free_ports(1, avoid=set())
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)} | WHOLE
    environ |= {"BINDERY_HUB_PORT": str(port), "BINDERY_START_PROBLEM_SHOWN_SECONDS": "600"}
    del environ["BINDERY_HUB_API_TOKEN"]
    process = subprocess.Popen(
        [sys.executable, "-m", "jupyterhub", "-f", str(config)], env=environ, cwd=tmp_path,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        probe = [sys.executable, "-m", "services.common.probe", f"http://127.0.0.1:{port}/hub/api/health"]

        def told() -> bool:
            assert process.poll() is None
            answer = subprocess.run(probe, cwd=CHECKOUT, capture_output=True, text=True, check=False)
            return answer.returncode == 1 and "The hub can't start: set BINDERY_HUB_API_TOKEN to a " in answer.stdout

        eventually(told, "the probe says why", 60)
        with httpx.Client(transport=httpx.HTTPTransport(local_address="127.0.0.2"), trust_env=False) as other_host:
            elsewhere = other_host.get(f"http://127.0.0.1:{port}/")
        assert (elsewhere.status_code, elsewhere.json()) == (503, {"message": "The hub can't start."})
        process.terminate()
        _, log = process.communicate(timeout=60)
        assert process.returncode == 1
        assert log.splitlines()[-1].startswith("The hub can't start: set BINDERY_HUB_API_TOKEN to a ")
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_a_refusal_is_shown_where_the_hub_listens(host: str) -> None:
    [port] = free_ports(1, avoid=set())
    environ = {"PATH": os.environ["PATH"], "BINDERY_HUB_PORT": str(port), "BINDERY_HUB_LISTEN_HOST": host}
    environ |= {"BINDERY_START_PROBLEM_SHOWN_SECONDS": "600"}
    program = "from deploy.jupyterhub.start_refusal import refuse; refuse('why')"
    process = subprocess.Popen([sys.executable, "-c", program], env=environ, cwd=CHECKOUT, stderr=subprocess.DEVNULL)
    try:

        def told() -> bool:
            with contextlib.suppress(httpx.ConnectError):
                return bool(httpx.get(f"http://{host}:{port}/", trust_env=False).json() == {"message": "why"})
            return False

        eventually(told, "the refusal is shown", 30)
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def engine_socket() -> Iterator[Path]:
    """A socket that something listens at, in a folder that everybody may enter."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        path = Path(folder) / "docker.sock"
        path.parent.chmod(0o755)
        listener.bind(str(path))
        listener.listen()
        yield path


def with_engine(path: Path) -> dict[str, str]:
    return WHOLE | {"BINDERY_SPAWNER": "docker", "BINDERY_DOCKER_HOST": f"unix://{path}"}


def test_an_engine_that_listens_will_do(engine_socket: Path) -> None:
    assert start_problem(with_engine(engine_socket)) == ""
    assert start_problem(WHOLE | {"BINDERY_SPAWNER": "docker", "BINDERY_DOCKER_HOST": "tcp://10.0.0.1:2375"}) == ""


def test_an_engine_that_is_only_away_does_not_keep_the_hub_from_starting(engine_socket: Path) -> None:
    other = engine_socket.with_name("dead.sock")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(other))
    assert start_problem(with_engine(other)) == ""


def test_a_socket_that_does_not_exist_is_named(tmp_path: Path) -> None:
    assert f"there is no socket {tmp_path / 'none'}. Start the engine" in start_problem(with_engine(tmp_path / "none"))


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become another user")
def test_a_socket_of_another_group_says_which_setting_gives_it(engine_socket: Path) -> None:
    engine_socket.chmod(0o660)
    script = "import os; from deploy.jupyterhub.start_checks import start_problem as p; print(p(os.environ))"
    result = subprocess.run(
        ["/usr/bin/env", "python3", "-c", script], env=with_engine(engine_socket) | {"PATH": "/usr/bin:/bin"},
        cwd=CHECKOUT, user=10001, group=10001, extra_groups=[], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert f"its process, of user 10001, may not open {engine_socket}." in result.stdout, result.stderr
    assert "with docker-compose.yml as DOCKER_GID in .env" in result.stdout
