"""Without a registry, `bindery up` builds and starts servers in containers of one Docker engine."""

from pathlib import Path

from tests.docker.compose import objects
from tests.docker.conftest import start_stack
from tests.support.engine import Engine
from tests.support.forge import Forge
from tests.support.full_chain import QUICK, run_notebook, with_notebook


def test_without_a_registry_servers_start_from_the_engines_own_images_and_end_with_everything(
    docker: Engine, forge: Forge, tmp_path: Path
) -> None:
    objects_before = objects(docker)
    repository = with_notebook(forge, "local", docker.jupyter)
    stack = start_stack(tmp_path, docker, "local/chain-", build_push="false", **QUICK)
    try:
        run_notebook(repository.launch(stack), repository)
        assert objects(docker) != objects_before
    finally:
        stack.stop()
    assert objects(docker) == objects_before
    assert "in containers" in stack.log()
