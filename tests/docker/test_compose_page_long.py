"""The commands of docs/compose.md, one after another in one checkout, do what the page says."""

import base64
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.docker.compose import Chain, run_notebook_in_the_end, slow_step, until_nothing_runs
from tests.support.api_launches import ApiLaunch
from tests.support.compose_stack import ComposeStack
from tests.support.docker_registry import Registry
from tests.support.engine import Engine
from tests.support.forge import Forge
from tests.support.full_chain import Repository, run_notebook, with_notebook
from tests.support.paths import CHECKOUT
from tests.support.ports import free_ports

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]
PAGE = (CHECKOUT / "docs" / "compose.md").read_text()
COMMANDS: list[str] = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
BLOCKS = 13


@pytest.fixture(scope="module")
def stack(compose: Chain) -> Iterator[ComposeStack]:
    stack = compose.prepare()
    try:
        yield stack
    finally:
        stack.stop()


@pytest.fixture(scope="module")
def repository(docker: Engine, bridge_forge: Forge) -> Repository:
    return with_notebook(bridge_forge, "page", docker.jupyter)


def block(words: str) -> str:
    """Return the block of commands that has these words."""
    [found] = [commands for commands in COMMANDS if words in commands]
    return found


def commands_to(do: str) -> list[str]:
    """Return the commands in the row of the table that says how to do this."""
    [row] = re.findall(rf"^\| {do} \| (.*) \|$", PAGE, re.MULTILINE)
    return [command.replace(r"\|", "|") for command in re.findall("`([^`]+)`", row)]


def run(stack: ComposeStack, commands: str) -> str:
    return stack.run("sh", "-ec", commands, seconds=300)


def test_the_page_has_the_commands_that_are_tested_here() -> None:
    """Those of the firewall are tested in test_compose_firewall.py."""
    assert len(COMMANDS) == BLOCKS, [commands.splitlines()[0] for commands in COMMANDS]


def test_two_commands_start_everything_and_a_launch_works(stack: ComposeStack, repository: Repository) -> None:
    run(stack, COMMANDS[0])
    run_notebook(repository.launch(stack), repository)


def test_settings_of_ones_own_are_read_from_a_file_and_again_after_a_restart(stack: ComposeStack) -> None:
    run(stack, block("my-settings.yaml"))
    launch_id = stack.create("someone-else/repo/HEAD", provider="gh")["launch_id"]
    problem = ApiLaunch(stack, launch_id, stack.follow(launch_id)).problem()
    assert problem["code"] == "banned", problem
    (stack.folder / "my-settings.yaml").write_text("seat_wait_seconds: 1700\n")
    run(stack, block("docker compose restart gateway resolver"))
    stack.until_healthy()


def test_what_the_engine_keeps_is_shown_and_removed(stack: ComposeStack) -> None:
    commands = block("docker system df").replace("until=168h", "until=87600h")  # other tests' images stay
    assert "Images" in run(stack, commands)


def test_an_emptied_registry_lets_everything_be_built_again(
    stack: ComposeStack, docker: Engine, repository: Repository
) -> None:
    before = repository.launch(stack)
    run_notebook(before, repository)
    until_nothing_runs(stack)
    run(stack, block("rm -r /var/lib/registry/docker"))
    stack.until_healthy()
    docker.docker(
        "rmi", "--force", *set(docker.docker("images", "--quiet", f"127.0.0.1:{stack.registry_port}/*/*").split())
    )
    after = repository.launch(stack)
    run_notebook(after, repository)
    assert after.build["build_id"] != before.build["build_id"]


def test_workers_are_more_when_they_are_asked_for(stack: ComposeStack) -> None:
    run(stack, block("--scale builder-worker=3"))
    assert len(stack.containers("builder-worker")) == 3


def test_a_backup_is_restored_after_everything_was_deleted(stack: ComposeStack, repository: Repository) -> None:
    launch = repository.launch(stack)
    view = run_notebook(launch, repository)
    until_nothing_runs(stack)
    run(stack, block("docker compose stop"))
    secrets = stack.secrets
    stack.down("--volumes")
    (stack.folder / "secrets" / "all.env").unlink()
    run(stack, block("up --no-start"))
    assert stack.secrets == secrets
    assert stack.launch(view["launch_id"])["build_id"] == view["build_id"]
    assert stack.hub("GET", "users").status_code == 200


@pytest.fixture
def settings_for_a_while(stack: ComposeStack) -> Iterator[None]:
    """Keep what a test writes into `.env` from those after it."""
    file = stack.folder / ".env"
    content = file.read_bytes()
    yield
    file.write_bytes(content)
    stack.make("compose-secrets")
    stack.up()


@pytest.mark.usefixtures("settings_for_a_while")
def test_a_registry_elsewhere_with_a_login_is_used_in_place_of_the_one_here(
    stack: ComposeStack, bridge_forge: Forge, docker: Engine, tmp_path: Path
) -> None:
    """The engine pushes and pulls by this machine's loopback address, as it asks other registries for https."""
    with Registry(tmp_path, users={"bindery": "the password"}, host="") as registry:
        container_host = urlsplit(bridge_forge.url).hostname
        commands = block("BINDERY_REGISTRY_PASSWORD").replace("registry.example.org/", f"{registry.address}/")
        commands = commands.replace("REGISTRY_URL=", f"REGISTRY_URL=http://{container_host}:{registry.port}")
        run(stack, commands)
        assert stack.containers("registry") == []
        repository = with_notebook(bridge_forge, "elsewhere", docker.jupyter)
        launch = repository.launch(stack)
        run_notebook(launch, repository)
        name, _, tag = launch.build["image"].removeprefix(f"{registry.address}/").rpartition(":")
        assert name.startswith("binder/r2d-")
        login = f"Basic {base64.b64encode(b'bindery:the password').decode()}"
        manifest = registry.call("GET", f"/v2/{name}/manifests/{tag}", headers={"Authorization": login})
        assert manifest.status == 200


def test_a_launch_outlives_an_upgrade_and_its_server_ends_when_all_are_ended(
    stack: ComposeStack, docker: Engine, bridge_forge: Forge
) -> None:
    repository = with_notebook(bridge_forge, "upgrade", docker.jupyter, slow_step())
    launch = repository.launch(stack)
    launch.until("building")
    before = {container["Id"] for container in stack.containers()}
    pull, make_secrets, build, up = commands_to("upgrade")
    assert (pull, build) == ("git pull", "docker compose build")  # this checkout is new, and the images are there
    run(stack, f"{make_secrets}\n{up}")
    assert not before & {container["Id"] for container in stack.containers()}
    run_notebook_in_the_end(launch, repository)
    assert stack.started_containers()
    run(stack, commands_to("end the servers, too")[0])
    assert stack.started_containers() == []


def test_what_is_wrong_is_shown(stack: ComposeStack) -> None:
    assert "gateway" in run(stack, block("docker compose ps --all"))
    commands = block("docker inspect --format").replace("bindery-launcher-1", stack.container("launcher")["Name"])
    run(stack, commands)


def test_https_is_served_for_both_names(stack: ComposeStack) -> None:
    """Without an authority that this machine reaches: the proxy's own certificate is shown, as the page says."""
    plain, secure = free_ports(2, avoid={stack.port, stack.registry_port})
    run(
        stack,
        block("BINDERY_ACME_EMAIL").replace(
            "make compose-secrets",
            f"printf 'BINDERY_TLS_LISTEN=127.0.0.1\\nBINDERY_HTTP_PORT={plain}\\nBINDERY_HTTPS_PORT={secure}\\n"
            f"BINDERY_ACME_SERVER=https://127.0.0.1:9/directory\\n' >>.env\nmake compose-secrets",
        ),
    )
    curl = ["curl", "--silent", "--insecure", "--noproxy", "*", "--connect-to", f"::127.0.0.1:{secure}"]
    page = subprocess.run([*curl, "https://bindery.example.org/health"], capture_output=True, text=True, check=True)
    assert '"ok":' in page.stdout.replace(" ", "")
    ended = subprocess.run(
        [*curl, "--output", "/dev/null", "--write-out", "%{http_code}", "https://bindery-servers.example.org/user/x/"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ended.stdout == "424"
    moved = subprocess.run(
        [
            *("curl", "--silent", "--noproxy", "*", "--connect-to", f"::127.0.0.1:{plain}", "--output", "/dev/null"),
            *("--write-out", "%{redirect_url}", "http://bindery.example.org/about?a=b"),
        ],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert moved.stdout == "https://bindery.example.org/about?a=b"
