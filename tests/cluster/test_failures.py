"""Each way in which a build in a Job fails has its own error code within its bound, and leaves nothing behind."""

import json
from functools import partial
from typing import Any

import pytest

from tests.cluster.conftest import Start
from tests.support.builder_processes import Builders
from tests.support.cluster import Cluster, Namespace
from tests.support.engine import REGISTRY
from tests.support.faults import until_gone
from tests.support.polling import eventually

KINDS = ("jobs", "pods", "secrets", "configmaps")
URL = "https://example.org/org/repo"


WITHIN_SECONDS = 60
"""No bound here is longer than 12 s; the rest is for a pod to start and to go on a busy machine."""


def failure(builders: Builders, namespace: Namespace, build_id: str, seconds: float = WITHIN_SECONDS) -> dict[str, Any]:
    """Return the error of a build that failed, once nothing of it is left."""
    build = builders.outcome(build_id, seconds)
    assert build["state"] == "failed", builders.log(build_id)
    until_gone(lambda: namespace.names(*KINDS, build_id=build_id), "nothing left of the build")
    error: dict[str, Any] = build["error"]
    return error


def failed_build(builders: Builders, namespace: Namespace, ref: str, seconds: float = WITHIN_SECONDS) -> dict[str, Any]:
    """Ask for a build, and read how it failed."""
    return failure(builders, namespace, builders.request_build(URL, ref)["build_id"], seconds)


def test_a_build_that_uses_more_memory_than_its_pod_may_is_out_of_memory_and_names_the_limit(
    start_noop: Start, namespace: Namespace
) -> None:
    error = failed_build(start_noop(build_memory_limit="64Mi"), namespace, "oom.mib-300")
    assert error["code"] == "build_out_of_memory"
    assert "64Mi" in error["detail"]


def test_a_job_past_its_deadline_is_a_timeout(start_noop: Start, namespace: Namespace) -> None:
    error = failed_build(start_noop(kubernetes_deadline_seconds=4), namespace, "late.push-0.sleep-100")
    assert error["code"] == "build_timeout"
    assert "4 s" in error["detail"]


def test_a_build_past_the_workers_own_maximum_is_a_timeout(start_noop: Start, namespace: Namespace) -> None:
    settings = {"build_timeout_seconds": 5, "kubernetes_deadline_seconds": 600}
    error = failed_build(start_noop(**settings), namespace, "later.push-0.sleep-100")
    assert error["code"] == "build_timeout"


def test_a_build_that_says_nothing_more_has_stalled(start_noop: Start, namespace: Namespace) -> None:
    builders = start_noop(build_stall_seconds=5)
    build_id = builders.request_build(URL, "stall.push-0.sleep-100")["build_id"]
    assert failure(builders, namespace, build_id)["code"] == "build_stalled"
    assert "those were 3 lines" in builders.log(build_id)


def test_a_build_for_which_no_node_has_room_waits_visibly_and_then_fails(
    start_noop: Start, namespace: Namespace
) -> None:
    resources = json.dumps({"requests": {"memory": "900Gi"}})
    settings = {
        "kubernetes_resources": resources,
        "kubernetes_unschedulable_seconds": 5,
        "kubernetes_settle_seconds": 1,
    }
    builders = start_noop(**settings)
    build_id = builders.request_build(URL, "unschedulable")["build_id"]
    builders.until_logged(build_id, "No node has room for the build: 0/1 nodes are available")
    error = failure(builders, namespace, build_id)
    assert error["code"] == "build_unschedulable"
    assert "Insufficient memory" in error["detail"]


def test_a_builder_image_that_cant_be_pulled_is_waited_for_visibly_and_then_said(
    start_noop: Start, namespace: Namespace
) -> None:
    image = f"{REGISTRY}/there/is-none:1"
    settings = {"builder_image": image, "kubernetes_image_pull_seconds": 6, "kubernetes_settle_seconds": 1}
    builders = start_noop(**settings)
    build_id = builders.request_build(URL, "no-image")["build_id"]
    builders.until_logged(build_id, "The builder image can't be pulled")
    error = failure(builders, namespace, build_id)
    assert error["code"] == "builder_image_unavailable"
    assert image in error["detail"]


def test_a_missing_push_secret_is_named(start_noop: Start, namespace: Namespace) -> None:
    settings = {"kubernetes_push_secret": "no-such-secret", "kubernetes_start_seconds": 6}
    error = failed_build(start_noop(**settings), namespace, "no-secret")
    assert error["code"] == "executor_unavailable"
    assert 'secret "no-such-secret" not found' in error["detail"]


@pytest.mark.parametrize("resource", ["count/jobs.batch", "pods"])
def test_a_full_quota_of_the_namespace_is_waited_for_visibly_and_then_said(
    start_noop: Start, namespace: Namespace, resource: str
) -> None:
    settings = {"kubernetes_quota_seconds": 6, "kubernetes_settle_seconds": 1, "kubernetes_probe_seconds": 1}
    builders = start_noop(**settings)
    namespace.kubectl("create", "quota", "full", f"--hard={resource}=0")
    try:
        build_id = builders.request_build(URL, "quota")["build_id"]
        builders.until_logged(build_id, "exceeded quota: full")
        error = failure(builders, namespace, build_id)
    finally:
        namespace.kubectl("delete", "quota", "full")
    assert error["code"] == "build_quota_exceeded"
    assert "exceeded quota: full" in error["detail"]


def test_a_quota_that_is_raised_in_time_costs_a_build_nothing_but_the_wait(
    start_noop: Start, namespace: Namespace
) -> None:
    builders = start_noop(kubernetes_settle_seconds=0.5, kubernetes_probe_seconds=1)
    namespace.kubectl("create", "quota", "full", "--hard=count/jobs.batch=0")
    try:
        build_id = builders.request_build(URL, "raised")["build_id"]
        builders.until_logged(build_id, "exceeded quota: full")
    finally:
        namespace.kubectl("delete", "quota", "full")
    assert builders.outcome(build_id)["state"] == "built"
    assert "those were 3 lines" in builders.log(build_id)


def test_a_build_evicted_from_its_node_says_what_the_node_lacked(start_noop: Start, namespace: Namespace) -> None:
    settings = {"kubernetes_resources": json.dumps({"limits": {"ephemeral-storage": "1Mi"}})}
    error = failed_build(start_noop(**settings), namespace, "evicted.lines-60000.push-0.sleep-200", 120)
    assert error["code"] == "build_evicted"
    assert "ephemeral" in error["detail"]


def test_a_build_whose_execution_vanishes_twice_is_lost(start_noop: Start, namespace: Namespace) -> None:
    builders = start_noop()
    build_id = builders.request_build(URL, "vanish.push-0.sleep-300")["build_id"]
    for name in (f"bindery-{build_id}", f"bindery-{build_id}-r2"):
        eventually(partial(_runs, namespace, name), f"a running pod of {name}", 60)
        namespace.kubectl("delete", "pods", "-l", f"job-name={name}", "--grace-period=0", "--force", "--wait=false")
    assert failure(builders, namespace, build_id)["code"] == "build_lost"


def test_an_api_server_that_is_down_past_the_bound_fails_the_build_and_its_job_goes_when_it_is_back(
    start_noop: Start, namespace: Namespace, own_cluster: Cluster
) -> None:
    settings = {
        "outage_patience_seconds": 12, "kubernetes_read_timeout_seconds": 2, "kubernetes_connect_timeout_seconds": 1,
        "kubernetes_probe_seconds": 1, "build_stop_seconds": 3, "relist_seconds": 2,
    }  # fmt: skip
    builders = start_noop(**settings)
    build_id = builders.request_build(URL, "api-down.push-0.sleep-300")["build_id"]
    builders.until_logged(build_id, "those were 3 lines")
    with own_cluster.paused("kube-apiserver"):
        builders.until_logged(build_id, "The build backend does not answer")
        assert builders.outcome(build_id)["error"]["code"] == "executor_unavailable"
    assert failure(builders, namespace, build_id)["code"] == "executor_unavailable"


def _runs(namespace: Namespace, job: str) -> bool:
    return "Running" in namespace.kubectl("get", "pods", "-l", f"job-name={job}", "-o", "jsonpath={..status.phase}")
