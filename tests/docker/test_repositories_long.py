"""The cases that repo2docker can build here, with the same `verify` as in the process executor's servers.

Its conda is a stand-in (`tests/support/images/repo2docker_base`): conda's own packages can't be had on each machine.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker.conftest import start_stack
from tests.support.case_launches import launch_case
from tests.support.case_repositories import CaseRepository
from tests.support.cases import Case, all_cases
from tests.support.engine import Engine
from tests.support.engine_images import IMAGES, built
from tests.support.forge import Forge
from tests.support.leftovers import leave_nothing
from tests.support.stack import Stack

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

PYTHON = "3.13"
"""That of Debian trixie, which is in the place of conda's."""
CASES = [case for case in all_cases() if "docker" in case.options.executors]


@pytest.fixture(scope="module")
def stack(docker: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    base = built(docker.host, "repo2docker_base", IMAGES / "repo2docker_base", docker.base)
    config = [
        f"c.Repo2Docker.base_image = {base!r}",
        # Steps reach packages and the forge as this machine does.
        'c.DockerEngine.extra_buildx_build_args = ["--load", "--network=host", "--allow=network.host"]',
    ]
    stack = start_stack(
        tmp_path_factory.mktemp("cases"), docker, "local/cases-",
        build_push="false", repo2docker_extra_config="\n".join(config), server_start_timeout_seconds=60,
        reap_interval_seconds=1, server_poll_seconds=1, finished_stream_seconds=1,
    )  # fmt: skip
    try:
        yield stack
    finally:
        stack.stop()


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.name))
def test_every_repository(stack: Stack, docker: Engine, forge: Forge, tmp_path: Path, case: Case) -> None:
    variables = {"PYTHON": PYTHON, "JUPYTER": docker.jupyter}
    try:
        launch_case(stack, CaseRepository(case=case, forge=forge, folder=tmp_path, variables=variables), "docker")
    finally:
        leave_nothing(stack)
