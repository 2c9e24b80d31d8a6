"""A watch that is cut off or silent, a stranger's pod with our labels, and more builds than a worker has slots."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest

from services.builder.executors.kubernetes.manifest import installation_label
from tests.cluster.conftest import Start
from tests.support.builder_processes import Builders, Part
from tests.support.cluster import Namespace
from tests.support.faults import until_gone
from tests.support.polling import eventually
from tests.support.watch_proxy import WatchProxy, watch_proxy

KINDS = ("jobs", "pods", "secrets", "configmaps")
SLOTS = 8
TAKEN_OVER = 2 * SLOTS
STALE_SECONDS = 4.0
ENDED_SECONDS = 60.0
"""What is left of a build of seconds, of 16 of them at most, and the end of its pod."""


def unreadable(worker: Part, resource: str, what: str) -> float:
    """Return how many objects or lines of a resource a worker could not read."""
    sample = f'bindery_kubernetes_unreadable_total{{resource="{resource}",what="{what}"}} '
    lines = httpx.get(f"{worker.url}/metrics", trust_env=False).text.splitlines()
    return sum(float(line.removeprefix(sample)) for line in lines if line.startswith(sample))


def staleness_seconds(worker: Part) -> float:
    """Return the time since the API server served the watch of a worker that has waited longest."""
    lines = httpx.get(f"{worker.url}/metrics", trust_env=False).text.splitlines()
    return max(
        float(line.split()[1]) for line in lines if line.startswith("bindery_kubernetes_watch_staleness_seconds{")
    )


@pytest.fixture
def proxied(namespace: Namespace, tmp_path: Path) -> Iterator[tuple[WatchProxy, Path]]:
    """A proxy before the API server, and the kubeconfig that leads through it."""
    with watch_proxy(namespace.kubeconfig(tmp_path)) as proxy_and_kubeconfig:
        yield proxy_and_kubeconfig


def test_a_line_of_the_pods_watch_that_is_cut_off_costs_no_build_and_no_line(
    proxied: tuple[WatchProxy, Path], start_noop: Start, namespace: Namespace
) -> None:
    proxy, kubeconfig = proxied
    builders = start_noop(kubernetes_config=kubeconfig)
    [worker] = builders.workers
    build_id = builders.request_build("https://example.org/org/cut", "cut.lines-40.ms-100")["build_id"]
    builders.until_logged(build_id, "line 3\n")

    proxy.cut_next_line("pods")
    namespace.kubectl("annotate", "pods", "-l", f"bindery/build-id={build_id}", "test=changed")
    eventually(lambda: unreadable(worker, "pods", "line") == 1, "the cut line was counted")
    assert builders.outcome(build_id, ENDED_SECONDS)["state"] == "built"
    builders.assert_every_line_once(build_id)
    assert proxy.cuts == 1
    assert worker.is_healthy
    until_gone(lambda: namespace.names(*KINDS, build_id=build_id), "nothing left of the build")


def test_a_watch_that_falls_silent_is_told_by_health_and_gauge_until_it_is_opened_again(
    proxied: tuple[WatchProxy, Path], start_noop: Start, namespace: Namespace
) -> None:
    proxy, kubeconfig = proxied
    builders = start_noop(
        kubernetes_config=kubeconfig,
        kubernetes_watch_seconds=1,
        kubernetes_stale_seconds=STALE_SECONDS,
        kubernetes_read_timeout_seconds=2 * STALE_SECONDS,
    )
    [worker] = builders.workers
    build_id = builders.request_build("https://example.org/org/silent", "silent.lines-60.ms-200")["build_id"]
    builders.until_logged(build_id, "line 3\n")
    assert staleness_seconds(worker) < STALE_SECONDS

    def is_unhealthy() -> bool:
        proxy.silence_watches()  # again and again: one may be opened just now
        return not worker.is_healthy

    eventually(is_unhealthy, "the worker is unhealthy", 3 * STALE_SECONDS)
    assert staleness_seconds(worker) > STALE_SECONDS
    checks = builders.client.get(f"{worker.url}/health").json()["checks"]
    assert ["the watch of " in check["message"] for check in checks if not check["ok"]] == [True]

    eventually(lambda: worker.is_healthy, "watches that are opened again", 5 * STALE_SECONDS)
    assert staleness_seconds(worker) < STALE_SECONDS
    assert builders.outcome(build_id, ENDED_SECONDS)["state"] == "built"
    builders.assert_every_line_once(build_id)
    until_gone(lambda: namespace.names(*KINDS, build_id=build_id), "nothing left of the build")


def test_a_pod_with_our_labels_and_no_container_of_ours_hides_no_pod_and_fails_no_build(
    start_noop: Start, namespace: Namespace
) -> None:
    builders = start_noop()
    [worker] = builders.workers
    installation = installation_label(str(builders.settings["installation_id"]))
    labels = {"bindery/installation": installation}
    make_strangers_pod(namespace, "bindery-before", labels)
    build_id = builders.request_build("https://example.org/org/strange", "strange.lines-40.ms-100.exit-1")["build_id"]
    builders.until_logged(build_id, "line 3\n")
    make_strangers_pod(namespace, "bindery-during", labels | {"bindery/build-id": build_id})
    try:
        eventually(lambda: unreadable(worker, "pods", "object") >= 2, "both were skipped")
        assert_failed_once(builders, build_id)
        assert worker.is_healthy
    finally:
        namespace.kubectl("delete", "pods", "bindery-before", "bindery-during", "--grace-period=0", "--force")
    until_gone(lambda: namespace.names(*KINDS, build_id=build_id), "nothing left of the build")


def test_16_builds_that_a_worker_with_8_slots_takes_over_are_all_read_and_their_failures_are_the_authors(
    start_noop: Start, namespace: Namespace
) -> None:
    builders = start_noop(build_slots=SLOTS, build_capacity=TAKEN_OVER, lease_seconds=4, lease_renew_seconds=1)
    builders.start_worker()
    urls = [f"https://example.org/org/adopted{number}" for number in range(TAKEN_OVER)]
    build_ids = [builders.request_build(url, "held-1.ms-300.push-0.exit-1")["build_id"] for url in urls]
    for build_id in build_ids:
        builders.until_logged(build_id, "line 1\n")

    before = builders.workers
    adopter = builders.start_worker()
    for worker in before:
        worker.kill()
    eventually(lambda: adopter.log().count("build_claimed") == TAKEN_OVER, "it has taken all builds over", 60)
    for build_id in build_ids:
        count = lines_of(builders, build_id)
        eventually(partial(has_more_lines, builders, build_id, count + 1), f"the log of {build_id} is read on")

    for pod in namespace.objects("pods"):
        namespace.kubectl("exec", pod["metadata"]["name"], "--", "touch", "/tmp/end")
    for build_id in build_ids:
        assert_failed_once(builders, build_id)
    until_gone(lambda: namespace.names(*KINDS), "nothing left of the builds")


def lines_of(builders: Builders, build_id: str) -> int:
    return builders.log(build_id).count("line ")


def has_more_lines(builders: Builders, build_id: str, count: int) -> bool:
    return lines_of(builders, build_id) > count


def make_strangers_pod(namespace: Namespace, name: str, labels: dict[str, str]) -> None:
    """Make a pod as anybody may who has the right to make pods; its image is never there."""
    container = {"name": "other", "image": "example.invalid/none", "imagePullPolicy": "Never"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}}
    namespace.kubectl("apply", "-f", "-", stdin=json.dumps(pod | {"spec": {"containers": [container]}}))


def assert_failed_once(builders: Builders, build_id: str) -> None:
    """Check that a build failed by its author's fault, told by its last line, and was not run again."""
    build = builders.outcome(build_id, ENDED_SECONDS)
    assert build["error"]["code"] == "build_failed", f"{build}; {builders.log(build_id)[-2000:]}"
    assert "those were" in build["error"]["detail"]
    assert "run again" not in builders.log(build_id)
    builders.assert_every_line_once(build_id)
