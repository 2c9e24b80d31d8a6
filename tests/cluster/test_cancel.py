"""A build that is cancelled, in whatever state, ends `cancelled` and leaves nothing in the cluster."""

import os
import signal
from pathlib import Path

from tests.cluster.conftest import Start
from tests.support.builder_processes import Builders
from tests.support.cluster import Namespace
from tests.support.docker_registry import Registry
from tests.support.engine import Engine
from tests.support.faults import until_gone
from tests.support.forge import Forge

KINDS = ("jobs", "pods", "secrets", "configmaps")
URL = "https://example.org/org/repo"


def assert_cancelled(builders: Builders, namespace: Namespace, build_id: str) -> None:
    builders.cancel(build_id)
    build = builders.outcome(build_id, 60)
    assert build["state"] == "cancelled"
    until_gone(lambda: namespace.names(*KINDS, build_id=build_id), "nothing left of the build")


def test_a_build_is_cancelled_while_queued(start_noop: Start, namespace: Namespace) -> None:
    builders = start_noop()
    builders.workers[0].end()
    build_id = builders.request_build(URL, "queued")["build_id"]
    assert builders.read(build_id)["state"] == "queued"
    assert_cancelled(builders, namespace, build_id)
    builders.start_worker()
    later = builders.request_build(URL, "queued-later")["build_id"]
    assert builders.outcome(later)["state"] == "built"
    assert namespace.names("jobs", build_id=build_id) == []
    assert builders.read(build_id)["state"] == "cancelled"
    assert not any("build_claimed" in line and build_id in line for line in builders.workers[0].log().splitlines())


def test_a_build_is_cancelled_while_running(start_noop: Start, namespace: Namespace) -> None:
    builders = start_noop()
    build_id = builders.request_build(URL, "running.push-0.sleep-300")["build_id"]
    builders.until_logged(build_id, "those were 3 lines")
    assert_cancelled(builders, namespace, build_id)


def test_a_build_is_cancelled_while_pushing(
    start: Start, namespace: Namespace, forge: Forge, the_engine: Engine, tmp_path: Path
) -> None:
    folder = tmp_path / "registry"
    folder.mkdir()
    with Registry(folder) as registry:
        assert registry.process is not None
        builders = start(image_prefix=f"{registry.address}/builds/")
        dockerfile = f"FROM {the_engine.base}\nRUN echo {tmp_path} and on; sleep 3\n"
        sha = forge.create_repo("org", "pushing", {"Dockerfile": dockerfile})
        build_id = builders.request_build(f"{forge.url}/org/pushing", sha)["build_id"]
        builders.until_logged(build_id, f"{tmp_path} and on")
        os.kill(registry.process.pid, signal.SIGSTOP)  # a push that never ends
        try:
            builders.until_state(build_id, "pushing", seconds=90)
            assert_cancelled(builders, namespace, build_id)
        finally:
            os.kill(registry.process.pid, signal.SIGCONT)
