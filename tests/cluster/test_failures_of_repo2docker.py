"""What fails in the engine and at the push, with the real repo2docker in a Job: each has its own error code."""

import base64
import json
import re
from pathlib import Path
from typing import Any

from tests.cluster.conftest import Start
from tests.support.builder_processes import Builders
from tests.support.cluster import Namespace
from tests.support.docker_registry import Registry
from tests.support.engine import Engine
from tests.support.faults import until_gone
from tests.support.forge import Forge

KINDS = ("jobs", "pods", "secrets", "configmaps")


def failure(builders: Builders, namespace: Namespace, build_id: str, seconds: float = 120) -> dict[str, Any]:
    """Return the error of a build that failed, once nothing of it is left."""
    build = builders.outcome(build_id, seconds)
    assert build["state"] == "failed", builders.log(build_id)
    until_gone(lambda: namespace.names(*KINDS, build_id=build_id), "nothing left of the build")
    error: dict[str, Any] = build["error"]
    return error


def login(registry: str, user: str, password: str) -> str:
    """Return a Docker `config.json`."""
    text = base64.b64encode(f"{user}:{password}".encode()).decode()
    return json.dumps({"auths": {registry: {"auth": text}}})


def test_a_step_of_the_dockerfile_that_is_killed_for_memory_is_out_of_memory_and_names_the_engine(
    start: Start, namespace: Namespace, forge: Forge, the_engine: Engine
) -> None:
    builders = start()
    assert the_engine.memory_bytes, "the engine has no memory limit: start it with --cgroup-parent"
    sha = forge.create_repo("org", "greedy", {"Dockerfile": f"FROM {the_engine.base}\nRUN tail /dev/zero\n"})
    build_id = builders.request_build(f"{forge.url}/org/greedy", sha)["build_id"]
    error = failure(builders, namespace, build_id)
    assert error["code"] == "build_out_of_memory", builders.log(build_id)
    assert "container engine's own" in error["detail"]


def test_a_step_of_the_dockerfile_that_fails_is_the_authors(
    start: Start, namespace: Namespace, forge: Forge, the_engine: Engine
) -> None:
    builders = start()
    sha = forge.create_repo("org", "broken", {"Dockerfile": f"FROM {the_engine.base}\nRUN echo so near && exit 3\n"})
    build_id = builders.request_build(f"{forge.url}/org/broken", sha)["build_id"]
    error = failure(builders, namespace, build_id)
    assert (error["code"], error["whose_move"]) == ("build_failed", "author")
    assert error["cause"]["text"] == "so near"
    assert error["detail"].startswith("so near\nThis is the last line of its output. repo2docker failed: ")
    line = builders.log(build_id, after=error["cause"]["after"]).partition("\n")[0]
    assert re.fullmatch(r"#[0-9]+ [0-9.]+ so near", line)


def test_credentials_that_may_not_push_are_told_apart_from_a_failed_build(
    start: Start, namespace: Namespace, forge: Forge, the_engine: Engine, tmp_path: Path
) -> None:
    folder = tmp_path / "registry"
    folder.mkdir()
    with Registry(folder, users={"bindery": "right"}) as registry:
        config = tmp_path / "config.json"
        config.write_text(login(registry.address, "bindery", "right"))
        namespace.secret("push", "config.json", login(registry.address, "bindery", "wrong"))
        prefix = f"{registry.address}/builds/"
        builders = start(image_prefix=prefix, docker_config=config, kubernetes_push_secret="push")
        sha = forge.create_repo("org", "denied", {"Dockerfile": f"FROM {the_engine.base}\nLABEL a=b\n"})
        build_id = builders.request_build(f"{forge.url}/org/denied", sha)["build_id"]
        assert failure(builders, namespace, build_id)["code"] == "push_denied", builders.log(build_id)

        namespace.secret("push", "config.json", login(registry.address, "bindery", "right"))
        again = builders.request_build(f"{forge.url}/org/denied", sha)["build_id"]
        assert builders.outcome(again, 120)["state"] == "built", builders.log(again)


def test_a_registry_that_is_down_past_the_bound_is_said_and_never_taken_for_a_missing_image(
    start: Start, namespace: Namespace, forge: Forge, the_engine: Engine, tmp_path: Path
) -> None:
    folder = tmp_path / "registry"
    folder.mkdir()
    with Registry(folder) as registry:
        builders = start(image_prefix=f"{registry.address}/builds/", outage_patience_seconds=5)
        dockerfile = f"FROM {the_engine.base}\nRUN echo {tmp_path} and on; sleep 3\n"
        sha = forge.create_repo("org", "down", {"Dockerfile": dockerfile})
        build_id = builders.request_build(f"{forge.url}/org/down", sha)["build_id"]
        builders.until_logged(build_id, f"{tmp_path} and on")
        registry.stop()
        assert failure(builders, namespace, build_id)["code"] == "registry_unavailable"
        assert "Waiting for it" in builders.log(build_id)
