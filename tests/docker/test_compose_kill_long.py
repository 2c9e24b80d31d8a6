"""Each container of docker-compose.yml is killed two seconds into a launch, and restarted: launches end ready."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.docker.compose import Chain, run_notebook_in_the_end, slow_step, until_nothing_runs
from tests.support.compose_stack import SERVICES, ComposeStack
from tests.support.engine import Engine
from tests.support.forge import Forge
from tests.support.full_chain import run_notebook, with_notebook
from tests.support.polling import eventually

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]
KILLED_AFTER_SECONDS = 2


@pytest.fixture(scope="module")
def stack(compose: Chain) -> Iterator[ComposeStack]:
    with compose.stack() as stack:
        yield stack


@pytest.fixture(autouse=True)
def nothing_is_left(stack: ComposeStack) -> Iterator[None]:
    yield
    stack.until_healthy()
    until_nothing_runs(stack)


@pytest.mark.parametrize("service", SERVICES)
def test_a_launch_during_which_a_container_is_killed_ends_ready(
    stack: ComposeStack, docker: Engine, bridge_forge: Forge, service: str
) -> None:
    repository = with_notebook(bridge_forge, f"kill-{service}", docker.jupyter, slow_step())
    begun_at = time.monotonic()
    launch = repository.launch(stack)
    eventually(lambda: time.monotonic() - begun_at >= KILLED_AFTER_SECONDS, "two seconds have passed")
    assert not launch.stream.terminal, "it has ended before anything was killed"
    before = {container["Id"]: container["State"]["StartedAt"] for container in stack.containers(service)}
    stack.kill(service)
    run_notebook_in_the_end(launch, repository)
    assert {container["Id"]: container["State"]["StartedAt"] for container in stack.containers(service)} != before


@pytest.mark.parametrize("service", SERVICES)
def test_after_a_container_is_restarted_a_launch_builds_and_is_ready(
    stack: ComposeStack, docker: Engine, bridge_forge: Forge, service: str
) -> None:
    stack.compose("restart", service)
    stack.until_healthy(service)
    repository = with_notebook(bridge_forge, f"restart-{service}", docker.jupyter)
    run_notebook(repository.launch(stack), repository)


def test_a_page_that_is_asked_for_while_the_gateway_restarts_comes_once_it_is_back(stack: ComposeStack) -> None:
    stack.compose("stop", "--timeout", "1", "gateway")
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(stack.client.get, f"{stack.url}/", timeout=60)
        stack.compose("start", "gateway")
        assert asking.result().status_code == 200
