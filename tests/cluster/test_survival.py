"""What a build in a Job survives: it ends `built`, says why it waits while it does, and tells every line or a gap."""

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import Start
from tests.support.builder_processes import Builders
from tests.support.cluster import Cluster, Namespace
from tests.support.docker_registry import Registry
from tests.support.engine import Engine
from tests.support.faults import until_gone
from tests.support.forge import Forge
from tests.support.polling import eventually

KINDS = ("jobs", "pods", "secrets", "configmaps")
URL = "https://example.org/org/repo"
OUTAGE_SECONDS = 30.0
GARBAGE_SECONDS = 120
"""Kubernetes' own collector of garbage comes back late from an outage of its API server."""
ENGINE_SECONDS = 180
"""An engine that has begun to push repeats that for 50 s by itself, and only then says that the registry is away."""


@contextlib.contextmanager
def lasting(seconds: float) -> Iterator[None]:
    """Make a block take this long at least: the length of an outage is what is tested."""
    started_at = time.monotonic()
    yield
    threading.Event().wait(max(0.0, started_at + seconds - time.monotonic()))


def assert_built(builders: Builders, namespace: Namespace, build_id: str, seconds: float = 120) -> None:
    build = builders.outcome(build_id, seconds)
    assert build["state"] == "built", f"{build}; {builders.log(build_id)[-2000:]}"
    assert build["digest"]
    until_gone(lambda: namespace.names(*KINDS, build_id=build_id), "nothing left of the build", GARBAGE_SECONDS)


@pytest.mark.parametrize("kind", ["pods", "jobs"])
def test_a_pod_or_job_that_is_deleted_once_costs_a_second_run_and_the_log_says_so(
    start_noop: Start, namespace: Namespace, kind: str
) -> None:
    builders = start_noop()
    build_id = builders.request_build(URL, f"once-{kind}.lines-60.ms-100")["build_id"]
    builders.until_logged(build_id, "line 10\n")
    namespace.kubectl("delete", kind, "-l", f"bindery/build-id={build_id}", "--wait=false")
    builders.until_logged(build_id, "The build is run again")
    assert_built(builders, namespace, build_id)
    again = builders.log(build_id).partition("The build is run again")[2]
    assert [line for line in again.splitlines() if line.startswith("line ")] == [f"line {n}" for n in range(1, 61)]


def test_a_job_that_is_deleted_while_no_worker_follows_it_costs_a_second_run_and_is_not_called_a_rotated_log(
    start_noop: Start, namespace: Namespace
) -> None:
    builders = start_noop()
    build_id = builders.request_build(URL, "alone.lines-150.ms-100")["build_id"]
    builders.until_logged(build_id, "line 10\n")
    [worker] = builders.workers
    worker.kill()
    namespace.kubectl("delete", "jobs", "-l", f"bindery/build-id={build_id}")
    builders.start_worker()
    builders.until_logged(build_id, "The build is run again")
    assert_built(builders, namespace, build_id)
    before, _, again = builders.log(build_id).partition("The build is run again")
    assert "rotated" not in before + again
    assert [line for line in again.splitlines() if line.startswith("line ")] == [f"line {n}" for n in range(1, 151)]
    assert f"this is bindery-{build_id}-r2" in again


@pytest.mark.parametrize("fault", ["killed", "paused"])
def test_an_api_server_that_is_away_for_30_s_costs_no_line(
    start_noop: Start, namespace: Namespace, own_cluster: Cluster, fault: str
) -> None:
    builders = start_noop()
    build_id = builders.request_build(URL, f"api-{fault}.lines-250.ms-200")["build_id"]
    builders.until_logged(build_id, "line 10\n")
    with getattr(own_cluster, fault)("kube-apiserver"), lasting(OUTAGE_SECONDS):
        builders.until_logged(build_id, "The build backend does not answer", OUTAGE_SECONDS)
    assert_built(builders, namespace, build_id)
    builders.assert_every_line_once(build_id)


def test_a_restarted_redis_costs_no_line(start_noop: Start, namespace: Namespace) -> None:
    builders = start_noop()
    build_id = builders.request_build(URL, "redis.lines-150.ms-100")["build_id"]
    builders.until_logged(build_id, "line 20\n")
    builders.valkey.kill()
    builders.valkey.start()
    assert_built(builders, namespace, build_id)
    builders.assert_every_line_once(build_id)


def test_a_registry_that_is_away_for_30_s_is_waited_for_and_the_image_is_pushed_then(
    start: Start, namespace: Namespace, forge: Forge, the_engine: Engine, tmp_path: Path
) -> None:
    folder = tmp_path / "registry"
    folder.mkdir()
    with Registry(folder) as registry:
        builders = start(image_prefix=f"{registry.address}/builds/")
        dockerfile = f"FROM {the_engine.base}\nRUN echo {tmp_path} and on; sleep 5\n"
        sha = forge.create_repo("org", "away", {"Dockerfile": dockerfile})
        build_id = builders.request_build(f"{forge.url}/org/away", sha)["build_id"]
        builders.until_logged(build_id, f"{tmp_path} and on")
        registry.stop()
        with lasting(OUTAGE_SECONDS):
            builders.until_logged(build_id, "Waiting for it", ENGINE_SECONDS)
        assert builders.read(build_id)["state"] in {"running", "pushing"}
        registry.start()
        assert_built(builders, namespace, build_id)
        before, waiting, after = builders.log(build_id).partition("Waiting for it")
        assert f"{tmp_path} and on" in before
        assert waiting
        assert "push" in after.lower()


def test_after_an_emptied_redis_the_old_job_is_not_taken_for_the_new_attempt(
    start_noop: Start, namespace: Namespace
) -> None:
    builders = start_noop()
    ref = "flush.lines-100.ms-200"  # the old Job outlasts the wait for a worker that may still live
    first = builders.request_build(URL, ref)["build_id"]
    builders.until_logged(first, "line 10\n")
    [worker] = builders.workers
    worker.kill()
    builders.valkey_flush()
    builders.start_worker()
    second = builders.request_build(URL, ref)["build_id"]
    assert second != first
    assert second.rpartition("-")[0] == first.rpartition("-")[0]
    eventually(lambda: len(namespace.names("jobs")) == 2, "a Job of its own for the new attempt")
    build = builders.outcome(second)
    assert build["state"] == "built"
    log = builders.log(second)
    if "The image already exists" not in log:  # the old Job may have pushed it first
        builders.assert_every_line_once(second)
    assert f"this is bindery-{first}" not in log
