"""Workers follow the queue, from none to three and back, by the number that the chart has KEDA ask Prometheus for."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.common.redis.keys import Keys, Kind, Topic
from tests.cluster.conftest import NOOP
from tests.support import crds
from tests.support.api_launches import git_spec
from tests.support.builder_processes import assert_every_line_once, resolved_repo
from tests.support.engine import Engine
from tests.support.faults import until_gone
from tests.support.forge import Forge
from tests.support.full_chain import with_notebook
from tests.support.helm_release import EXAMPLES, HelmRelease
from tests.support.jobs_made import count_of, jobs_made
from tests.support.keda import Scaling
from tests.support.polling import eventually
from tests.support.ports import free_ports
from tests.support.prometheus import prometheus
from tests.support.releases import Releases
from tests.support.scaling_watch import ScalingWatch

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]
SLOTS = 2
WORKERS = 3
BUILDS = 40
HELD = SLOTS * WORKERS
"""Builds that go on until they are told to end; they are the last in the queue."""
SCRAPE_SECONDS = 2


def values(prometheus_port: int, registry: str) -> dict[str, Any]:
    """Workers from none on, and builds of a second that leave an image in `registry`."""
    settings = {
        "kubernetes_command": ["python3", "-c", NOOP.read_text()],
        "kubernetes_docker_host": "",
        "repo2docker_extra_envs": {"NOOP_REGISTRY": registry},
    }
    keda = {"prometheusUrl": f"http://127.0.0.1:{prometheus_port}", "pollingSeconds": 2, "cooldownSeconds": 4}
    return {
        "builder": {"replicas": 2, "extraConfig": settings},
        "worker": {
            "slots": SLOTS,
            "autoscaling": {"by": "keda", "minReplicas": 0, "maxReplicas": WORKERS, "keda": keda},
            "extraConfig": settings,
        },
        "builds": {"capacity": SLOTS * WORKERS},
        "monitoring": {"podMonitor": {"enabled": True, "interval": f"{SCRAPE_SECONDS}s"}},
    }


@pytest.fixture(scope="module")
def release(releases: Releases) -> Iterator[HelmRelease]:
    with crds.defined(releases.cluster), releases.new() as release:
        [port] = free_ports(1, avoid={release.port, release.registry_port})
        registry = f"http://{release.name}-registry.{release.namespace}.svc:5000"
        release.change(values(port, registry))
        yield release.install("--values", str(EXAMPLES / "kind.yaml"))


@pytest.fixture
def scaling(release: HelmRelease) -> Scaling:
    """The ScaledObject, as the API server has it."""
    [scaled_object] = release.objects("scaledobjects.keda.sh")
    return Scaling.of(scaled_object)


@pytest.fixture
def watch(release: HelmRelease, scaling: Scaling, tmp_path: Path) -> Iterator[ScalingWatch]:
    [monitor] = release.objects("podmonitors.monitoring.coreos.com")
    port = httpx.URL(scaling.server).port or 0
    asking = prometheus(
        tmp_path,
        port,
        monitor,
        list_pods=lambda: release.objects("pods"),
        read_secret=lambda name, key: secret(release, name)[key],
    )
    with asking as asked, release.part_client("builder") as builder:
        yield ScalingWatch(release=release, builder=builder, prometheus=asked, scaling=scaling)


def secret(release: HelmRelease, name: str) -> dict[str, str]:
    assert name == release.name
    return release.secret


class Builds:
    """The builds of the test, as the builder's API knows them."""

    def __init__(self, release: HelmRelease, builder: httpx.Client) -> None:
        self._release = release
        self._builder = builder
        self.ids: list[str] = []

    def request(self, name: str, ref: str) -> str:
        repo = resolved_repo(f"https://example.org/scaled/{name}", ref)
        reply = self._builder.post("/builds", json={"repo": repo.model_dump(mode="json")})
        assert reply.status_code == 202, reply.text
        self.ids.append(reply.json()["build_id"])
        return self.ids[-1]

    def request_by_gateway(self, forge: Forge, image: str) -> dict[str, Any]:
        repository = with_notebook(forge, "scaled", image)
        body = {"provider": "git", "spec": git_spec(repository.url, repository.sha)}
        reply = self._release.client.post(f"{self._release.url}/api/v1/builds", json=body)
        assert reply.status_code == 202, reply.text
        build: dict[str, Any] = reply.json()
        self.ids.append(build["build_id"])
        return build

    def owner(self, build_id: str) -> str:
        """Return the worker that supervises a build."""
        keys = Keys(f"bindery:{self._release.secret['installation-id']}")
        with self._release.redis() as client:
            return str((client.hget(keys.record(Topic(Kind.BUILD, build_id)), "owner") or b"").decode())

    def end(self, build_id: str) -> None:
        """Tell a held build to end."""
        chosen = f"bindery/build-id={build_id}"
        [pod] = self._release.objects("pods", namespace=self._release.builds, selector=chosen)
        name = pod["metadata"]["name"]
        self._release.kubectl("exec", name, "--", "touch", "/tmp/end", namespace=self._release.builds)

    def assert_all_built_once(self) -> None:
        for build_id in self.ids:
            build = self._builder.get(f"/builds/{build_id}").json()
            log = self._builder.get(f"/builds/{build_id}/log", params={"format": "text"}).text
            assert build["state"] == "built", f"{build}; {log[-2000:]}"
            assert_every_line_once(log)


def replicas(release: HelmRelease, deployment: str) -> int:
    return int(release.kubectl("get", "deployment", deployment, "-o", "jsonpath={.spec.replicas}"))


def objects_of_builds(release: HelmRelease) -> list[str]:
    found = release.objects("jobs,pods,secrets", namespace=release.builds, selector="bindery/build-id")
    return [f"{item['kind']} {item['metadata']['name']}" for item in found]


def test_workers_follow_the_queue_from_none_to_three_and_back(
    release: HelmRelease, watch: ScalingWatch, scaling: Scaling, forge: Forge, the_engine: Engine, tmp_path: Path
) -> None:
    builds = Builds(release, watch.builder)
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: print(f"\n{watch.table()}"))
        jobs = stack.enter_context(jobs_made(release.cluster, release.builds, tmp_path))
        watch.until(lambda look: look.value == 0, "Prometheus knows that nothing is to be built")
        watch.is_scaling = True
        watch.until(lambda look: look.alive == 0, "there is no worker")
        watch.is_scaling = False
        release.upgrade()
        assert replicas(release, scaling.target) == 0, "an upgrade has set the number of workers"

        # Without a worker the gateway takes builds, and says what they wait for.
        first = builds.request_by_gateway(forge, the_engine.jupyter)
        assert (first["state"], first["queue"]["position"]) == ("queued", 1), first
        assert first["queue"]["reason"] == "No builder is running."
        for number in range(1, BUILDS):
            held = ".held-1" if number >= BUILDS - HELD else ""
            builds.request(f"repo{number}", f"ref.lines-5.ms-100{held}")
            watch.look()
        watch.until(lambda look: look.value == BUILDS, "Prometheus knows of all builds")
        assert release.client.get(release.url).status_code == 200
        assert release.unready("gateway") == []
        assert watch.told_by() == {pod["metadata"]["name"] for pod in release.pods("builder")}, "each API tells it"

        # From none to one, and on.
        watch.is_scaling = True
        watch.until(lambda look: look.alive == WORKERS, "all workers are there")
        watch.until(lambda look: look.value == look.running == HELD, "all but the builds that are held are done")
        release.upgrade()
        assert replicas(release, scaling.target) == WORKERS, "an upgrade has set the number of workers"

        # Back to one, while two of three workers have a build: at least one of these is handed over.
        of_worker = {builds.owner(build_id): build_id for build_id in builds.ids[-HELD:]}
        assert len(of_worker) == WORKERS
        kept = list(of_worker.values())[:2]
        watch.is_scaling = False
        for build_id in set(builds.ids[-HELD:]) - set(kept):
            builds.end(build_id)
        watch.until(lambda look: look.value == len(kept), "Prometheus knows that two builds are left")
        watch.is_scaling = True
        watch.until(lambda look: look.alive == 1, "one worker is left")
        eventually(lambda: len({builds.owner(build_id) for build_id in kept} - {""}) == 1, "it has both builds")

        # And to none, once nothing has been to be built for some seconds.
        for build_id in kept:
            builds.end(build_id)
        watch.until(lambda look: look.alive == look.value == 0, "no worker is left")
        assert watch.steps == [0, 1, WORKERS, 1, 0]
        builds.assert_all_built_once()
        until_gone(lambda: objects_of_builds(release), "nothing is left of the builds", 60)
    assert (len(set(builds.ids)), count_of(jobs)) == (BUILDS, BUILDS)


def test_what_others_define_goes_with_the_release(release: HelmRelease) -> None:
    kinds = "scaledobjects.keda.sh,podmonitors.monitoring.coreos.com"
    assert json.loads(release.kubectl("get", kinds, "-o", "json"))["items"]
    release.uninstall()
    assert json.loads(release.kubectl("get", kinds, "-o", "json"))["items"] == []
