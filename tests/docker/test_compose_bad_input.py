"""What is set up wrongly is a sentence in the log of its service, and in the health that `docker compose ps` shows."""

import contextlib
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import pytest
import yaml

from tests.docker.compose import Chain
from tests.support.compose_stack import ComposeStack
from tests.support.engine import Engine
from tests.support.forge import Forge
from tests.support.polling import eventually
from tests.support.stack_builds import StackBuilder

pytestmark = pytest.mark.timeout(300)
HEALTH = {"interval": "2s", "retries": 2, "start_period": "0s"}
"""So that what is wrong shows in seconds: docker-compose.yml gives a start on a slow machine more time."""
SHARED = ("redis", "proxy")
"""What runs all the time. Of the rest each test starts what it needs: that takes less time than to start all."""
REDIS_CONF = "deploy/compose/redis.conf"
REGISTRY_YAML = "deploy/compose/registry.yaml"


@pytest.fixture(scope="module")
def stack(compose: Chain) -> Iterator[ComposeStack]:
    stack = compose.prepare()
    try:
        yield stack.up(*SHARED)
    finally:
        stack.stop()


@dataclass(frozen=True, kw_only=True)
class Mistakes:
    """What an operator did wrong: `make` does it; each of `told` says the words, and needs `others` for that."""

    make: Callable[[ComposeStack], None]
    told: Mapping[str, tuple[str, ...]]
    others: tuple[str, ...] = ()

    @property
    def services(self) -> tuple[str, ...]:
        return (*self.others, *self.told)


def edit(stack: ComposeStack, name: str, pattern: str, replacement: str) -> None:
    """Change what a file of the checkout says. Fails if there is nothing to change."""
    file = stack.folder / name
    text, count = re.subn(pattern, replacement, file.read_text(), flags=re.MULTILINE)
    assert count, f"{name} has no {pattern}"
    file.write_text(text)


def without_secrets(stack: ComposeStack) -> None:
    edit(stack, "secrets/launcher.env", r"^BINDERY_SERVICE_TOKEN=.*\n", "")
    edit(stack, "secrets/gateway.env", r"^BINDERY_INSTALLATION_SECRET=.*\n", "")
    edit(stack, "secrets/resolver.env", r"redis://[^@]*@", "redis://")
    stack.set_variables(DOCKER_GID="54321")


def with_wrong_secrets(stack: ComposeStack) -> None:
    edit(stack, "secrets/launcher.env", r"^(BINDERY_HUB_API_TOKEN=).*$", r"\1" + "0123456789abcdef" * 2)
    edit(stack, "secrets/gateway.env", r"(redis://[^:]*):[^@]*@", r"\1:wrong@")
    edit(stack, REGISTRY_YAML, r"\Z", "auth:\n  htpasswd: {realm: registry, path: /tmp/htpasswd}\n")


def with_open_redis(stack: ComposeStack) -> None:
    edit(stack, REDIS_CONF, r"^aclfile .*\n", "protected-mode no\n")
    edit(stack, "secrets/launcher.env", r"redis://[^@]*@", "redis://")


MISTAKES = {
    "missing": Mistakes(
        make=without_secrets,
        told={
            "launcher": ("The launcher can't start: set BINDERY_SERVICE_TOKEN",),
            "gateway": ("The gateway can't start: set BINDERY_INSTALLATION_SECRET",),
            "resolver": ("asks for a password, and BINDERY_REDIS_URL has none: write",),
            "builder": ("may not open /var/run/docker.sock: give it the socket's group",),
            "builder-worker": ("may not open /var/run/docker.sock: give it the socket's group",),
            "jupyterhub": ("The hub can't start", "may not open /var/run/docker.sock. Give it the socket's group"),
        },
    ),
    "wrong": Mistakes(
        make=with_wrong_secrets,
        told={
            "launcher": ("JupyterHub does not accept our token", "Set BINDERY_HUB_API_TOKEN"),
            "gateway": ("refuses the user or the password in BINDERY_REDIS_URL: write",),
            "builder": ("The image registry", "gives us no access"),
        },
        others=("registry", "jupyterhub"),
    ),
    "open": Mistakes(
        make=with_open_redis,
        told={"launcher": ("asks for no password", "give it its file of users")},
        others=("redis",),
    ),
}


@contextlib.contextmanager
def wrong(stack: ComposeStack, *services: str) -> Iterator[None]:
    """At the end, put back each file of the operator's, and stop these services; those that are shared start again."""
    files = [
        *(stack.folder / name for name in (".env", "docker-compose.override.yml", REDIS_CONF, REGISTRY_YAML)),
        *(stack.folder / "secrets").iterdir(),
    ]
    contents = {file: file.read_bytes() for file in files}
    try:
        yield
    finally:
        for file, content in contents.items():
            file.write_bytes(content)
        stack.compose("stop", "--timeout", "3", *services)
        recreate(stack, *(service for service in services if service in SHARED))


def recreate(stack: ComposeStack, *services: str) -> None:
    """Make containers of services anew, and wait for nothing."""
    if services:
        stack.compose("up", "--detach", "--no-deps", "--force-recreate", "--timeout", "3", *services)


def probe_often(stack: ComposeStack, *services: str) -> None:
    file = stack.folder / "docker-compose.override.yml"
    content = yaml.safe_load(file.read_text())
    for service in services:
        content["services"].setdefault(service, {})["healthcheck"] = HEALTH
    file.write_text(yaml.safe_dump(content))


@pytest.mark.parametrize("mistakes", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_a_sentence_in_the_log_and_in_the_health_of_the_service(
    stack: ComposeStack, mistakes: Mistakes
) -> None:
    with wrong(stack, *mistakes.services):
        mistakes.make(stack)
        probe_often(stack, *mistakes.told)
        recreate(stack, *mistakes.others)  # first, as the rest would wait for them to be healthy
        recreate(stack, *mistakes.told)
        for service, words in mistakes.told.items():
            assert_told(stack, service, *words)


def assert_told(stack: ComposeStack, service: str, *words: str) -> None:
    """Wait until a service is unhealthy and says why; check that its log does too, without a traceback."""

    def told() -> bool:
        status, output = stack.health(service)
        return status == "unhealthy" and all(word in output for word in words)

    try:
        eventually(told, f"{service} is unhealthy and says {words}", 90)
    except AssertionError as error:
        raise AssertionError(f"{error}: {stack.health(service)}\n{stack.log(service)[-3000:]}") from None
    log = stack.log(service)
    assert all(word in log for word in words), log[-3000:]
    assert "Traceback" not in log, log[-5000:]


def test_a_hub_that_is_not_there_is_told_by_the_launcher(stack: ComposeStack) -> None:
    with wrong(stack, "launcher"):
        probe_often(stack, "launcher")
        recreate(stack, "launcher")
        assert_told(stack, "launcher", "JupyterHub does not work at http://edge-hub:8081/hub/api/", "Start it")


def test_a_registry_that_refuses_a_push_is_told_by_the_worker_and_in_the_build(
    stack: ComposeStack, docker: Engine, bridge_forge: Forge
) -> None:
    services = ("registry", "builder", "builder-worker")
    with wrong(stack, *services):
        edit(stack, REGISTRY_YAML, "^storage:$", "storage:\n  maintenance: {readonly: {enabled: true}}")
        probe_often(stack, *services)
        recreate(stack, *services)
        stack.until_healthy(*services)
        sha = bridge_forge.create_repo("org", "unpushed", {"Dockerfile": f"FROM {docker.base}\n"})
        with contextlib.closing(StackBuilder(stack)) as builder:
            build = builder.request_build(f"{bridge_forge.url}/org/unpushed", sha)
            build = builder.outcome(build["build_id"])
        assert build["error"]["code"] == "push_denied", build
        assert_told(stack, "builder-worker", "The registry refused the image", "To mend it,")


def test_a_file_of_secrets_that_is_missing_keeps_compose_from_starting_and_is_named(stack: ComposeStack) -> None:
    file = stack.folder / "secrets" / "launcher.env"
    content = file.read_bytes()
    file.unlink()
    try:
        assert "secrets/launcher.env" in stack.compose_refusal("up", "--detach", "launcher")
    finally:
        file.write_bytes(content)


def test_a_port_that_is_in_use_is_named_by_the_engine(stack: ComposeStack) -> None:
    with wrong(stack, "proxy"), socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        stack.set_variables(BINDERY_PORT=str(port))
        refusal = stack.compose_refusal("up", "--detach", "--no-deps", "proxy")
        assert f"127.0.0.1:{port}" in refusal
        assert "in use" in refusal or "already allocated" in refusal
