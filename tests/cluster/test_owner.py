"""Builds go with the ConfigMap that they belong to, and the builder's API does with few rights of its own."""

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.cluster.conftest import builder_settings, noop_settings
from tests.support.builder_processes import Builders, running_builders
from tests.support.cluster import Namespace
from tests.support.engine import Engine
from tests.support.faults import until_gone
from tests.support.polling import eventually

KINDS = ("jobs", "pods", "secrets")
OWNER = "bindery"
URL = "https://example.org/org/repo"

API_RULES = [
    {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["list", "delete"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
]
"""All that the API needs, if it has an account of its own: it makes nothing, and reads neither logs nor Secrets."""


@pytest.fixture(scope="module")
def builders(
    namespace: Namespace, the_engine: Engine, builder_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Builders]:
    """A worker whose Jobs are to belong to a ConfigMap, and an API with an account of its own."""
    folder = tmp_path_factory.mktemp("owned")
    namespace.kubectl("create", "serviceaccount", "api")
    namespace.grant("api", API_RULES, role="api")
    settings = builder_settings(namespace, folder, the_engine, builder_image) | noop_settings(namespace.cluster)
    settings |= {
        "kubernetes_owner": OWNER, "kubernetes_start_seconds": 1, "kubernetes_settle_seconds": 0.2,
        "kubernetes_probe_seconds": 0.5, "kubernetes_grace_seconds": 0, "relist_seconds": 1,
        "build_runs_max": 3,
    }  # fmt: skip
    (folder / "api").mkdir()
    api_settings = {"kubernetes_config": replace(namespace, account="api").kubeconfig(folder / "api")}
    with running_builders(folder, api_settings=api_settings, **settings) as running:
        yield running


def test_a_running_build_goes_with_its_owner_runs_again_for_one_made_anew_and_says_if_there_is_none(
    builders: Builders, namespace: Namespace
) -> None:
    uid = namespace.make_owner(OWNER)
    build_id = builders.request_build(URL, "goes.held-1.ms-100.push-0")["build_id"]
    builders.until_logged(build_id, "line 3\n")
    [job] = namespace.objects("jobs", build_id=build_id)
    assert job["metadata"]["ownerReferences"] == [{"apiVersion": "v1", "kind": "ConfigMap", "name": OWNER, "uid": uid}]
    names = namespace.names(*KINDS, build_id=build_id)
    assert [name.partition("/")[0] for name in names] == ["Job", "Pod", "Secret"]

    namespace.kubectl("delete", "configmap", OWNER)
    uid = namespace.make_owner(OWNER)
    until_gone(lambda: set(names) & set(namespace.names(*KINDS)), "nothing left of the first run")
    builders.until_logged(build_id, f"this is bindery-{build_id}-r2")
    [job] = namespace.objects("jobs", build_id=build_id)
    assert [owner["uid"] for owner in job["metadata"]["ownerReferences"]] == [uid]

    namespace.kubectl("delete", "configmap", OWNER)
    until_gone(lambda: namespace.names(*KINDS), "nothing left of the build")
    problem = builders.outcome(build_id)["error"]
    assert problem["code"] == "executor_unavailable"
    missing = f"The ConfigMap {OWNER}, to which builds belong, does not exist"
    assert missing in problem["detail"]
    assert missing in builders.log(build_id)
    assert namespace.names(*KINDS) == []


def test_an_api_that_may_only_list_and_delete_removes_what_no_worker_is_there_to_remove(
    builders: Builders, namespace: Namespace
) -> None:
    namespace.kubectl("delete", "configmap", OWNER, "--ignore-not-found")  # a test that failed may have left it
    namespace.make_owner(OWNER)
    build_id = builders.request_build(URL, "left.held-1.ms-100.push-0")["build_id"]
    job = eventually(lambda: namespace.objects("jobs", build_id=build_id), "it has its Job")[0]
    builders.cancel(build_id)
    assert builders.outcome(build_id)["state"] == "cancelled"
    until_gone(lambda: namespace.names(*KINDS), "nothing left of the build")

    [worker] = builders.workers
    worker.end()
    labels = {"labels": job["metadata"]["labels"]}
    left = {
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": job["metadata"]["name"], **labels},
        "spec": {"backoffLimit": 0, "template": {"metadata": labels, "spec": job["spec"]["template"]["spec"]}},
    }  # fmt: skip
    namespace.kubectl("create", "-f", "-", stdin=json.dumps(left))
    until_gone(lambda: namespace.names(*KINDS), "the API has removed it")
