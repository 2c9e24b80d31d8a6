"""An upgrade that replaces the pods of services and hub while launches, a build and a stock client's stream go on."""

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.support.api_launches import ApiLaunch, git_spec
from tests.support.engine import Engine
from tests.support.forge import Forge
from tests.support.full_chain import Repository, run_notebook, with_notebook
from tests.support.helm_release import HelmRelease
from tests.support.launching import Following
from tests.support.polling import eventually
from tests.support.releases import Releases

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]
LAUNCHES = 20
LINES = 500
FAILS_AFTER_SECONDS = 75
DEPLOYMENTS = ("gateway", "resolver", "builder", "worker", "launcher", "proxy")
VALUES: dict[str, Any] = {
    "gateway": {"drainSeconds": 150, "resources": {"requests": {"cpu": "10m"}}},
    "servers": {"memory": {"guarantee": "64M", "limit": "512M"}},
}
"""A drain that is short, and outlasts the build; servers of which the node takes 20."""


class InService(HelmRelease):
    """A release that clients reach by the gateway's Service, as through an ingress controller."""

    @property
    def url(self) -> str:
        if not self._gateway:
            self._gateway = f"http://{self.address('gateway')}"
        return self._gateway

    _gateway = ""


@pytest.fixture(scope="module")
def release(releases: Releases) -> Iterator[HelmRelease]:
    with releases.new(kind=InService, **VALUES) as release:
        yield release.install()


@dataclass
class Client:
    """A program that launches by the v1 API, and resumes its stream wherever that ends."""

    launch: ApiLaunch
    resumed: int = 0

    @classmethod
    def begin(cls, release: HelmRelease, repository: Repository) -> "Client":
        body = {"provider": "git", "spec": git_spec(repository.url)}
        reply = httpx.post(f"{release.url}/api/v1/launches", json=body, timeout=30, trust_env=False)
        assert reply.status_code == 202, reply.text
        launch_id = reply.json()["launch_id"]
        return cls(ApiLaunch(release, launch_id, release.follow(launch_id)))

    def outcome(self) -> dict[str, Any]:
        def has_ended() -> bool:
            if not self.launch.stream.terminal and not self.launch.stream.is_being_read:
                self.resumed += 1
                self.launch.stream.resume()
            return bool(self.launch.stream.terminal)

        eventually(has_ended, f"the end of a launch; so far: {self.launch.stream.events[-3:]}", 240)
        return self.launch.stream.outcome()


def test_an_upgrade_during_twenty_launches_costs_nobody_anything(
    release: HelmRelease, forge: Forge, the_engine: Engine
) -> None:
    ready = with_notebook(forge, "ready", the_engine.jupyter)
    run_notebook(ready.launch(release), ready)  # its image is there
    old_pods = _pods(release, *DEPLOYMENTS, "hub")
    served_by = _pods(release, "gateway", "worker")

    run = uuid4().hex  # the engine has the steps of an earlier one
    talking = f'RUN : {run}; i=0; while [ "$i" -lt {LINES} ]; do i=$((i+1)); echo "numbered $i"; sleep 0.15; done'
    talks = with_notebook(forge, "talks", the_engine.jupyter, talking)
    stock: Following = release.facade(talks.url)
    stock.until_message("numbered 20", 120)
    fails = with_notebook(forge, "fails", the_engine.jupyter, f"RUN : {run}; sleep {FAILS_AFTER_SECONDS}; exit 7")
    failing = Client.begin(release, fails)
    eventually(lambda: failing.launch.view["state"] == "building", "it is being built", 60)

    def terminal_events() -> list[Any]:
        return [stream.terminal for stream in (stock, failing.launch.stream)]

    def at_replacement() -> list[Any]:
        """Return what has ended each of the two streams once all old gateways and workers are to end."""
        eventually(lambda: not served_by & _staying(release, "gateway", "worker"), "they are replaced", 240)
        return terminal_events()

    assert terminal_events() == [None, None]
    began_at = time.monotonic()
    changed = {part: {"podAnnotations": {"upgraded": "yes"}} for part in (*DEPLOYMENTS, "hub")}
    with ThreadPoolExecutor() as threads:
        upgrading = threads.submit(release.upgrade, **changed)
        replacing = threads.submit(at_replacement)
        clients: list[Client] = []
        while len(clients) < LAUNCHES:
            eventually(lambda: time.monotonic() >= began_at + 3 * len(clients), "the next launch is due")
            clients.append(Client.begin(release, ready))
        outcomes = [client.outcome() for client in clients]
        upgrading.result(240)
        assert replacing.result() == [None, None], "both go on while the pods are replaced that serve them"
    took = time.monotonic() - began_at

    failed = [outcome for outcome in outcomes if outcome["phase"] != "ready"]
    assert not failed, f"{failed}\n{release.state()}"
    last = stock.outcome(240)
    assert last["phase"] == "ready", last
    numbers = [int(number) for number in re.findall(r"numbered (\d+)\n", stock.text)]
    assert numbers == list(range(1, LINES + 1))
    assert failing.outcome()["phase"] == "failed"
    problem = failing.launch.view["error"]
    assert problem["code"] == "build_failed", problem
    build = failing.launch.build
    assert (build["build_id"].rpartition("-")[2], failing.launch.stream.text.count("Cloning into")) == ("1", 1)
    new_pods = _pods(release, *DEPLOYMENTS, "hub")
    eventually(lambda: not old_pods & _pods(release, *DEPLOYMENTS, "hub"), "all old pods are gone", 240)
    assert new_pods - old_pods
    assert release.refused_by_redis() == []
    print(f"\nupgrade: {took:.0f} s; {LAUNCHES} launches, all of them ready;")
    print(f"{sum(client.resumed for client in clients)} streams resumed; {len(numbers)} of {LINES} lines, each once")


def _pods(release: HelmRelease, *parts: str) -> set[str]:
    """Return the uids of the pods of parts."""
    return {str(pod["metadata"]["uid"]) for part in parts for pod in release.pods(part)}


def _staying(release: HelmRelease, *parts: str) -> set[str]:
    """Return the uids of the pods of parts that are not about to end."""
    pods = [pod for part in parts for pod in release.pods(part)]
    return {str(pod["metadata"]["uid"]) for pod in pods if "deletionTimestamp" not in pod["metadata"]}
