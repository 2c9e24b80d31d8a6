"""Workers come, go, are killed and paused: each image is built by one Job, and each line of it told once."""

import concurrent.futures
import threading
from pathlib import Path

from tests.cluster.conftest import Start
from tests.support.builder_processes import Builders, Part
from tests.support.cluster import Namespace
from tests.support.faults import until_gone
from tests.support.jobs_made import count_of, jobs_made
from tests.support.polling import eventually

KINDS = ("jobs", "pods", "secrets", "configmaps")
PAUSE_SECONDS = 30.0


def assert_built_once(builders: Builders, namespace: Namespace, build_ids: set[str], seconds: float) -> None:
    for build_id in build_ids:
        build = builders.outcome(build_id, seconds)
        assert build["state"] == "built", f"{build}; {builders.log(build_id)[-2000:]}"
        builders.assert_every_line_once(build_id)
    until_gone(lambda: namespace.names(*KINDS), "nothing left of the builds", 60)


def test_50_requests_for_10_refs_are_10_jobs_though_one_worker_is_killed_and_the_other_paused(
    start_noop: Start, namespace: Namespace, tmp_path: Path
) -> None:
    builders = start_noop(build_slots=5)
    first = builders.api
    (paused,) = builders.workers
    second = builders.start_api()
    killed = builders.start_worker()
    with (
        jobs_made(namespace.cluster, namespace.name, tmp_path) as jobs,
        concurrent.futures.ThreadPoolExecutor(16) as pool,
    ):
        replies = pool.map(
            lambda n: builders.request_build(
                f"https://example.org/org/repo{n % 10}", "ref.lines-120.ms-200", api=(first, second)[n % 2]
            )["build_id"],
            range(50),
        )
        build_ids = set(replies)
        assert len(build_ids) == 10
        for build_id in build_ids:
            builders.until_logged(build_id, "line 5\n")
        owners = [worker.log().count("build_claimed") for worker in (killed, paused)]
        assert min(owners) > 0, f"both have builds: {owners}"
        killed.kill()
        with paused.paused():
            threading.Event().wait(PAUSE_SECONDS)  # the fault itself: longer than any lease
        assert_built_once(builders, namespace, build_ids, 120)
    assert count_of(jobs) == 10
    assert len({builders.read(build_id)["digest"] for build_id in build_ids}) == 10


def test_the_builds_of_a_killed_worker_are_adopted_within_15_s_and_their_jobs_are_found_again(
    start_noop: Start, namespace: Namespace, tmp_path: Path
) -> None:
    builders = start_noop()
    with jobs_made(namespace.cluster, namespace.name, tmp_path) as jobs:
        build_id = builders.request_build("https://example.org/org/adopted", "ref.lines-150.ms-150")["build_id"]
        builders.until_logged(build_id, "line 5\n")
        [killed] = builders.workers
        survivor = builders.start_worker()
        killed.kill()
        eventually(lambda: _has_claimed(survivor, build_id), "the survivor has it", 15)
        assert_built_once(builders, namespace, {build_id}, 120)
    assert count_of(jobs) == 1


def _has_claimed(worker: Part, build_id: str) -> bool:
    return any("build_claimed" in line and build_id in line for line in worker.log().splitlines())


def test_workers_are_scaled_from_one_to_three_and_back_with_builds_running(
    start_noop: Start, namespace: Namespace, tmp_path: Path
) -> None:
    builders = start_noop(build_slots=2)
    with jobs_made(namespace.cluster, namespace.name, tmp_path) as jobs:
        urls = [f"https://example.org/org/scaled{n}" for n in range(6)]
        build_ids = {builders.request_build(url, "ref.lines-150.ms-150")["build_id"] for url in urls}
        [old] = builders.workers
        builders.start_worker()
        builders.start_worker()
        for build_id in build_ids:  # three workers have slots for all
            builders.until_logged(build_id, "line 5\n")
        builders.workers[1].end()
        old.end()
        assert len(builders.workers) == 1
        assert_built_once(builders, namespace, build_ids, 120)
    assert count_of(jobs) == 6
