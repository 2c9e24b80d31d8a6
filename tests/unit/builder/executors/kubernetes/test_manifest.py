"""The Job of a build says what is set, and holds no secret."""

import json

from services.builder.executors.base import Attempt
from services.builder.executors.kubernetes.manifest import (
    Command,
    installation_label,
    job_manifest,
    preferred_node,
    secret_manifest,
)
from services.builder.executors.kubernetes.settings import KubernetesSettings
from services.builder.executors.kubernetes.states import JobState, Json
from tests.support.settings import settings_for

ATTEMPT = Attempt(
    build_id=f"{'a' * 24}-1", image="registry/image:ref", repo_url="https://example.org/repo", ref="ref", epoch=7, run=2
)
COMMAND = Command(
    image="builder:1",
    arguments=["jupyter-repo2docker", "--", "x"],
    environment={"A": "1"},
    secrets={"TOKEN": "very secret"},
    config="c = 1\n",
)


def job(**settings: object) -> Json:
    return job_manifest(ATTEMPT, COMMAND, settings_for(KubernetesSettings, settings), secret="the-secret")


def pod(**settings: object) -> Json:
    spec: Json = job(**settings)["spec"]["template"]["spec"]
    return spec


def test_a_job_is_named_for_its_run_and_runs_once_within_its_deadline() -> None:
    manifest = job(build_timeout_seconds=100)
    assert manifest["metadata"]["name"] == f"bindery-{'a' * 24}-1-r2"
    assert manifest["metadata"]["annotations"]["bindery/epoch"] == "7"
    spec = manifest["spec"]
    assert (spec["backoffLimit"], spec["activeDeadlineSeconds"], spec["ttlSecondsAfterFinished"]) == (0, 100, 7200)
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    assert spec["template"]["spec"]["automountServiceAccountToken"] is False


def test_secrets_stand_in_the_secret_alone_which_the_job_owns() -> None:
    manifest = job()
    assert "very secret" not in json.dumps(manifest)
    state = JobState(name="job", uid="uid", build_id="build", epoch=7, secret="the-secret")
    secret = secret_manifest(state, COMMAND, KubernetesSettings())
    assert secret["stringData"] == {"repo2docker_config.py": "c = 1\n", "TOKEN": "very secret"}
    assert secret["metadata"]["name"] == "the-secret"
    assert secret["metadata"]["ownerReferences"][0]["uid"] == "uid"
    [container] = manifest["spec"]["template"]["spec"]["containers"]
    reference = {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "the-secret", "key": "TOKEN"}}}
    assert reference in container["env"]


def test_the_engine_is_a_socket_of_the_node_an_address_or_none() -> None:
    socket = pod(kubernetes_docker_host="unix:///run/dind/docker.sock")
    assert {"path": "/run/dind/docker.sock", "type": "Socket"} in [
        volume.get("hostPath") for volume in socket["volumes"]
    ]
    address = pod(kubernetes_docker_host="tcp://engine:2376", kubernetes_docker_tls_secret="tls")
    assert {"name": "DOCKER_HOST", "value": "tcp://engine:2376"} in address["containers"][0]["env"]
    assert {"name": "DOCKER_TLS_VERIFY", "value": "1"} in address["containers"][0]["env"]
    none = pod(kubernetes_docker_host="")
    assert [volume["name"] for volume in none["volumes"]] == ["build"]


def test_limits_of_every_executor_hold_where_kubernetes_own_say_nothing() -> None:
    resources = {"requests": {"memory": "1Gi"}, "limits": {"memory": "3Gi"}}
    manifest = pod(build_memory_limit="2Gi", build_cpu_limit=1.5, kubernetes_resources=resources)
    assert manifest["containers"][0]["resources"] == {
        "requests": {"memory": "1Gi"},
        "limits": {"memory": "3Gi", "cpu": "1.5"},
    }


def test_builds_keep_apart_unless_they_stick_to_a_node_or_an_affinity_is_given() -> None:
    assert "podAntiAffinity" in pod()["affinity"]
    sticky = job_manifest(ATTEMPT, COMMAND, KubernetesSettings(), secret="s", node="n")["spec"]["template"]["spec"]
    assert "nodeAffinity" in sticky["affinity"]
    affinity: Json = {"nodeAffinity": {}}
    assert pod(kubernetes_affinity=affinity)["affinity"] == affinity


def test_policies_and_dashboards_made_for_binderhub_select_builds_and_an_operator_may_say_otherwise() -> None:
    for meta in (job()["metadata"], job()["spec"]["template"]["metadata"]):
        assert meta["labels"]["component"] == "binderhub-build"
        assert meta["labels"]["name"] == f"bindery-{'a' * 24}-1-r2"
        assert meta["annotations"]["binder-repo"] == "https://example.org/repo"
    theirs = {"component": "image-builder", "app": "binder", "name": "build"}
    manifest = job(kubernetes_labels=theirs, kubernetes_annotations={"binder-repo": "elsewhere"})
    for meta in (manifest["metadata"], manifest["spec"]["template"]["metadata"]):
        assert {name: meta["labels"][name] for name in theirs} == theirs
        assert meta["annotations"]["binder-repo"] == "elsewhere"


def test_what_we_select_by_is_ours_alone_whatever_labels_are_set() -> None:
    settings = {"kubernetes_labels": {"bindery/installation": "x", "bindery/build-id": "y", "component": "z"}}
    for manifest in (job(), job(**settings)):
        labels = manifest["spec"]["template"]["metadata"]["labels"]
        assert labels["bindery/installation"] == installation_label("default")
        assert labels["bindery/build-id"] == ATTEMPT.build_id
        [apart] = pod()["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
        wanted = apart["podAffinityTerm"]["labelSelector"]["matchLabels"]
        assert wanted == {"bindery/installation": installation_label("default")}, "a build of any age and label has it"
        assert wanted.items() <= labels.items()


def test_builderhubs_tolerations_are_the_default() -> None:
    keys = [toleration["key"] for toleration in pod()["tolerations"]]
    assert keys == ["hub.jupyter.org/dedicated", "hub.jupyter.org_dedicated"]


def test_a_repository_prefers_one_node_and_few_move_when_another_comes() -> None:
    nodes = ["a", "b", "c"]
    repos = [f"https://example.org/{n}" for n in range(300)]
    before = {repo: preferred_node(repo, nodes) for repo in repos}
    after = {repo: preferred_node(repo, [*nodes, "d"]) for repo in repos}
    moved_repos = [repo for repo in repos if before[repo] != after[repo]]
    assert all(after[repo] == "d" for repo in moved_repos)
    assert 30 < len(moved_repos) < 130
    assert preferred_node(repos[0], []) is None
