"""A repository becomes an image: by repo2docker in a Job, through the queue, into the registry."""

import json
import re

import httpx
import pytest

from tests.cluster.conftest import Start
from tests.support.cluster import Namespace
from tests.support.engine import Engine
from tests.support.faults import until_gone
from tests.support.forge import Forge
from tests.support.polling import eventually

URL = "https://example.org/org/repo"
KINDS = ("jobs", "pods", "secrets", "configmaps")


def test_a_repository_with_a_dockerfile_is_built_in_a_job_pushed_and_found_by_its_digest(
    start: Start, forge: Forge, namespace: Namespace, the_engine: Engine
) -> None:
    builders = start()
    dockerfile = f"FROM {the_engine.jupyter}\nLABEL here=there\nRUN echo hello from the build\n"
    sha = forge.create_repo("org", "first", {"Dockerfile": dockerfile})
    first = builders.request_build(f"{forge.url}/org/first", sha)
    assert first["state"] in {"queued", "running"}
    builders.until_logged(first["build_id"], "hello from the build", 120)
    build = builders.outcome(first["build_id"], 240)
    assert build["state"] == "built", builders.log(first["build_id"])
    assert re.fullmatch("sha256:[0-9a-f]{64}", build["digest"])
    again = builders.request_build(f"{forge.url}/org/first", sha)
    assert (again["state"], again["digest"]) == ("built", build["digest"])

    by_digest = f"{build['image'].rpartition(':')[0]}@{build['digest']}"
    the_engine.docker("pull", "--quiet", by_digest)
    output = the_engine.docker("run", "--rm", by_digest, "python3", "-c", "import jupyter_server; print('it runs')")
    assert "it runs" in output
    labels = the_engine.docker("inspect", "--format", "{{json .Config.Labels}}", by_digest)
    assert f'"org.opencontainers.image.revision":"{sha}"' in labels
    until_gone(lambda: namespace.names(*KINDS), "nothing left of the build")


def test_without_a_registry_the_engine_of_the_node_keeps_an_image_which_is_built_once(
    start: Start, forge: Forge, the_engine: Engine
) -> None:
    builders = start(build_push=False, docker_host=the_engine.host, image_prefix="bindery-not-pushed/")
    sha = forge.create_repo("org", "not-pushed", {"Dockerfile": f"FROM {the_engine.base}\nLABEL a=not-pushed\n"})
    first = builders.request_build(f"{forge.url}/org/not-pushed", sha)
    build = builders.outcome(first["build_id"], 240)
    assert build["state"] == "built", builders.log(first["build_id"])
    try:
        assert the_engine.docker("image", "inspect", build["image"])
        again = builders.request_build(f"{forge.url}/org/not-pushed", sha)
        assert (again["state"], again["build_id"]) == ("built", first["build_id"])
    finally:
        the_engine.docker("image", "rm", build["image"])
    rebuilt = builders.request_build(f"{forge.url}/org/not-pushed", sha)
    assert rebuilt["build_id"] != first["build_id"]
    assert builders.outcome(rebuilt["build_id"], 240)["state"] == "built"
    the_engine.docker("image", "rm", build["image"])


@pytest.mark.parametrize(
    ("setting", "selector"),
    [
        ({}, "component=binderhub-build"),
        ({"component": "image-builder", "app": "binder"}, "component=image-builder,app=binder"),
    ],
)
def test_policies_select_builds_by_labels_that_bindery_itself_does_without(
    start_noop: Start, namespace: Namespace, setting: dict[str, str], selector: str
) -> None:
    builders = start_noop(kubernetes_labels=json.dumps(setting))
    build_id = builders.request_build(URL, f"labels{len(selector)}.sleep-3")["build_id"]
    builders.until_logged(build_id, "those were 3 lines")
    matching = namespace.kubectl("get", "jobs,pods", "-l", selector, "-o", "name").split()
    assert f"job.batch/bindery-{build_id}" in matching
    assert len(matching) == 2
    assert builders.outcome(build_id)["state"] == "built"
    until_gone(lambda: namespace.names(*KINDS), "nothing left of the build")


def test_a_build_costs_the_api_server_few_requests(start_noop: Start, namespace: Namespace) -> None:
    builders = start_noop()
    [worker] = builders.workers

    def requests() -> float:
        lines = httpx.get(f"{worker.url}/metrics", trust_env=False).text.splitlines()
        mine = [line for line in lines if line.startswith("bindery_kubernetes_requests_total")]
        return sum(float(line.rpartition(" ")[2]) for line in mine if 'kind="events"' not in line)

    for number in range(3):  # the first opens the watches
        before = requests()
        build_id = builders.request_build(URL, f"requests{number}")["build_id"]
        assert builders.outcome(build_id)["state"] == "built"
        until_gone(lambda: namespace.names("jobs"), "no Job left")
    assert requests() - before <= 10, "of the watches and probes some may fall into this time"


def test_sticky_builds_prefer_a_node_with_an_engine_and_do_without_one(
    start_noop: Start, namespace: Namespace, builder_image: str
) -> None:
    builders = start_noop(kubernetes_sticky_builds=True)

    def affinity(ref: str) -> dict[str, object]:
        build_id = builders.request_build(URL, f"{ref}.sleep-3")["build_id"]
        builders.until_logged(build_id, "those were 3 lines")
        [job] = namespace.objects("jobs", build_id=build_id)
        assert builders.outcome(build_id)["state"] == "built"
        affinity_terms: dict[str, object] = job["spec"]["template"]["spec"]["affinity"]
        return affinity_terms

    assert "podAntiAffinity" in affinity("no-engine")
    namespace.kubectl("run", "engine", f"--image={builder_image}", "--labels=component=image-builder,app=binder",
                      "--restart=Never", "--", "sleep", "600")  # fmt: skip
    node = eventually(
        lambda: namespace.kubectl("get", "pod", "engine", "-o", "jsonpath={.spec.nodeName}"), "a node for the engine"
    )
    assert f'"values": ["{node}"]' in json.dumps(affinity("with-engine")["nodeAffinity"])
