"""`make test-cluster` finds a cluster, or has one made: by which program, and with which words."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tests.support import cluster_start, container_clusters
from tests.support.cluster import RUN, Cluster
from tests.support.cluster_start import NoClusterError, cluster, environment_of
from tests.support.container_clusters import installed_tool
from tests.support.engine import Engine

FAKE = """#!{python}
import json, os, sys
name = os.path.basename(sys.argv[0])
content = "" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.read()
with open({log!r}, "a") as log:
    log.write(json.dumps([[name, *sys.argv[1:]], content, os.environ.get("KUBECONFIG", "")]) + "\\n")
answers = json.load(open({answers!r}))
for words, status, answer in answers:
    if words in " ".join([name, *sys.argv[1:]]):
        print(answer, end="")
        sys.exit(status)
"""

Programs = Callable[..., None]
Commands = Callable[[], list[str]]


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No setting of the caller's, and an empty PATH."""
    for name in ("KUBECONFIG", "BINDERY_TEST_CLUSTER_DIR", "BINDERY_TEST_HOST", "BINDERY_TEST_REGISTRY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(cluster_start, "HOME", tmp_path / "home")
    monkeypatch.setattr(cluster_start, "CHECKOUT", tmp_path / "checkout")
    return tmp_path


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    """Put programs on PATH that log their calls and answer as told: words of a command, its status, its output."""

    def install(*names: str, answers: tuple[tuple[str, int, str], ...] = ()) -> None:
        (tmp_path / "answers.json").write_text(json.dumps(answers))
        for name in names:
            text = FAKE.format(python=sys.executable, log=str(tmp_path / "log"), answers=str(tmp_path / "answers.json"))
            (tmp_path / "bin" / name).write_text(text)
            (tmp_path / "bin" / name).chmod(0o755)

    return install


@pytest.fixture
def log(tmp_path: Path) -> Callable[[], list[tuple[str, str, str]]]:
    """What was called so far: command, what it read, and the KUBECONFIG that it saw."""

    def calls() -> list[tuple[str, str, str]]:
        lines = (tmp_path / "log").read_text().splitlines()
        return [(" ".join(command), content, kubeconfig) for command, content, kubeconfig in map(json.loads, lines)]

    return calls


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    """An engine on a socket, with its images, whose registry needs no relay."""
    fake_engine = Engine(host="unix:///run/e.sock", base="base:1", builder="builder:1", jupyter="jupyter:1")

    @contextmanager
    def running() -> Iterator[Engine]:
        yield fake_engine

    def answering(*_: object, **__: object) -> AbstractContextManager[None]:
        return nullcontext()

    monkeypatch.setattr(cluster_start, "engine", running)
    monkeypatch.setattr(container_clusters, "_registry_at", answering)
    monkeypatch.setattr(container_clusters, "REGISTRY", "127.0.0.1:5000")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return fake_engine


GATEWAYS = '[{"Subnet": "fc00::/64", "Gateway": "fc00::1"}, {"Subnet": "172.20.0.0/16", "Gateway": "172.20.0.1"}]'
ANSWERS = (
    ("network inspect", 0, GATEWAYS),
    ("docker inspect", 0, "172.20.0.2 "),
    ("get nodes", 0, "10.244.0.0/24"),
    ("kubeconfig get", 0, "apiVersion: v1\n"),
)


def test_kind_comes_before_k3d_and_both_before_the_scripts(programs: Programs) -> None:
    assert installed_tool() is None
    programs("k3d")
    assert installed_tool() == "k3d"
    programs("kind")
    assert installed_tool() == "kind"


def test_kind_creates_a_cluster_with_the_engine_s_socket_and_registry_and_deletes_it(
    programs: Programs, log: Callable[[], list[tuple[str, str, str]]], engine: Engine, tmp_path: Path
) -> None:
    programs("kind", "kubectl", "docker", "ip", answers=ANSWERS)
    home = tmp_path / "home" / "kind"
    with cluster() as target:
        assert target == Cluster(
            kubeconfig=home / "kubeconfig",
            kubectl_program=str(tmp_path / "bin" / "kubectl"),
            host="172.20.0.1",
            is_own=False,
        )
    assert [command for command, _, _ in log()] == [
        "kind delete cluster --name bindery-tests",
        f"kind create cluster --name bindery-tests --kubeconfig {home}/kubeconfig --config {home}/kind.yaml"
        " --wait 180s",
        "docker network inspect --format {{json .IPAM.Config}} kind",
        "docker exec bindery-tests-control-plane mkdir -p /etc/containerd/certs.d/127.0.0.1:5000",
        "docker exec --interactive bindery-tests-control-plane cp /dev/stdin"
        " /etc/containerd/certs.d/127.0.0.1:5000/hosts.toml",
        "docker tag builder:1 127.0.0.1:5000/builder:1",
        "docker tag jupyter:1 127.0.0.1:5000/jupyter:1",
        "kind load docker-image 127.0.0.1:5000/builder:1 127.0.0.1:5000/jupyter:1 --name bindery-tests",
        "docker inspect --format {{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}} bindery-tests-control-plane",
        "kubectl get nodes --output jsonpath={.items[0].spec.podCIDR}",
        "ip route replace 10.244.0.0/24 via 172.20.0.2",
        "ip route del 10.244.0.0/24 via 172.20.0.2",
        "kind delete cluster --name bindery-tests",
    ]
    (hosts_toml,) = [content for command, content, _ in log() if "hosts.toml" in command]
    assert hosts_toml == '[host."http://172.20.0.1:5000"]\n  capabilities = ["pull", "resolve"]\n'
    config = yaml.safe_load((home / "kind.yaml").read_text())
    assert config["nodes"] == [
        {"role": "control-plane", "extraMounts": [{"hostPath": "/run/e.sock", "containerPath": "/run/e.sock"}]}
    ]
    assert {kubeconfig for command, _, kubeconfig in log() if command.startswith(("kind", "kubectl"))} == {
        f"{home}/kubeconfig"
    }


def test_k3d_does_the_same_in_a_network_that_is_there_before_it(
    programs: Programs, log: Callable[[], list[tuple[str, str, str]]], engine: Engine, tmp_path: Path
) -> None:
    programs("k3d", "kubectl", "docker", "ip", answers=ANSWERS)
    home = tmp_path / "home" / "k3d"
    with cluster() as target:
        assert (target.kubeconfig, target.host, target.is_own) == (home / "kubeconfig", "172.20.0.1", False)
        assert target.kubeconfig.read_text() == "apiVersion: v1\n"
    assert [command for command, _, _ in log()] == [
        "k3d cluster delete bindery-tests",
        "docker network rm k3d-bindery-tests",
        "docker network create k3d-bindery-tests",
        "docker network inspect --format {{json .IPAM.Config}} k3d-bindery-tests",
        f"k3d cluster create bindery-tests --network k3d-bindery-tests --registry-config {home}/registries.yaml"
        " --volume /run/e.sock:/run/e.sock@server:0 --k3s-arg --disable=traefik@server:0 --no-lb --wait --timeout 180s"
        " --kubeconfig-update-default=false --kubeconfig-switch-context=false",
        "k3d kubeconfig get bindery-tests",
        "docker tag builder:1 127.0.0.1:5000/builder:1",
        "docker tag jupyter:1 127.0.0.1:5000/jupyter:1",
        "k3d image import 127.0.0.1:5000/builder:1 127.0.0.1:5000/jupyter:1 --cluster bindery-tests",
        "docker inspect --format {{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}} k3d-bindery-tests-server-0",
        "kubectl get nodes --output jsonpath={.items[0].spec.podCIDR}",
        "ip route replace 10.244.0.0/24 via 172.20.0.2",
        "ip route del 10.244.0.0/24 via 172.20.0.2",
        "k3d cluster delete bindery-tests",
        "docker network rm k3d-bindery-tests",
    ]
    mirrors = yaml.safe_load((home / "registries.yaml").read_text())
    assert mirrors == {"mirrors": {"127.0.0.1:5000": {"endpoint": ["http://172.20.0.1:5000"]}}}


@pytest.mark.parametrize("tool", ["kind", "k3d"])
def test_a_cluster_that_is_half_made_is_deleted_and_the_reason_is_said(
    programs: Programs, log: Callable[[], list[tuple[str, str, str]]], engine: Engine, tool: str
) -> None:
    programs(
        tool,
        "kubectl",
        "docker",
        "ip",
        answers=((f"{tool} cluster create", 1, ""), ("create cluster", 1, ""), *ANSWERS),
    )
    with pytest.raises(NoClusterError, match=f"{tool} has made no cluster: {tool} c[a-z]+ c[a-z]+ failed"), cluster():
        pass
    assert [command for command, _, _ in log()].count(f"{tool} delete cluster --name bindery-tests") in (0, 2)
    assert log()[-1][0] in ("kind delete cluster --name bindery-tests", "docker network rm k3d-bindery-tests")


def test_without_kubectl_no_cluster_is_made(programs: Programs, engine: Engine) -> None:
    programs("kind")
    with pytest.raises(NoClusterError, match="kind is installed, but kubectl is missing"), cluster():
        pass


def test_the_small_engine_of_the_tests_runs_no_node(
    programs: Programs, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs("kind", "kubectl")
    monkeypatch.setattr(cluster_start, "engine", lambda: nullcontext(replace(engine, memory_bytes=1 << 30)))
    with pytest.raises(NoClusterError, match="has 1024 MiB for all containers, too little for a node"), cluster():
        pass


def test_scripts_that_the_caller_names_come_before_kind(
    programs: Programs, engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    programs("kind", "kubectl")
    monkeypatch.setenv("BINDERY_TEST_CLUSTER_DIR", str(tmp_path / "none"))
    with pytest.raises(NoClusterError, match=rf"none in {tmp_path}/none\)"), cluster():
        pass


def test_without_anything_the_message_names_all_ways(tmp_path: Path) -> None:
    with pytest.raises(NoClusterError) as failed, cluster():
        pass
    assert str(failed.value) == (
        "no cluster: set KUBECONFIG to one, install kind or k3d, or set BINDERY_TEST_CLUSTER_DIR to scripts that"
        f" start one (none in {tmp_path}/shared/cluster)"
    )


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({}, "BINDERY_TEST_HOST= must be the address of this machine that pods"),
        ({"BINDERY_TEST_HOST": "192.0.2.1"}, "BINDERY_TEST_HOST=192.0.2.1 must be the address of this machine"),
        ({"BINDERY_TEST_HOST": "127.0.0.1"}, "BINDERY_TEST_REGISTRY must be a registry"),
    ],
)
def test_a_cluster_elsewhere_needs_to_know_this_machine_and_a_registry(
    programs: Programs, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], problem: str
) -> None:
    programs("kubectl", "kind")
    for name, value in ({"KUBECONFIG": "/there/config"} | variables).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(NoClusterError, match=problem), cluster():
        pass


def test_with_both_it_is_taken_and_what_is_run_there_is_told(
    programs: Programs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    programs("kubectl", "kind")
    monkeypatch.setenv("KUBECONFIG", "/there/config")
    monkeypatch.setenv("BINDERY_TEST_HOST", "127.0.0.1")
    monkeypatch.setenv("BINDERY_TEST_REGISTRY", "registry.example.org:80")
    monkeypatch.setattr(cluster_start, "REGISTRY", "registry.example.org:80")
    with cluster() as target:
        assert target == Cluster(
            kubeconfig=Path("/there/config"),
            kubectl_program=str(tmp_path / "bin" / "kubectl"),
            host="127.0.0.1",
            is_own=False,
        )
        variables = environment_of(target)
    assert (variables["KUBECONFIG"], variables["BINDERY_TEST_HOST"]) == ("/there/config", "127.0.0.1")
    assert variables["BINDERY_TEST_REGISTRY"] == "registry.example.org:80"


def test_a_cluster_that_does_not_answer_is_said_so(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    programs("kubectl", answers=(("readyz", 1, ""),))
    monkeypatch.setenv("KUBECONFIG", "/there/config")
    with pytest.raises(NoClusterError, match="the cluster of KUBECONFIG=/there/config does not answer"), cluster():
        pass


def test_the_machine_s_own_cluster_needs_no_setting(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    programs("kubectl")
    monkeypatch.setenv("KUBECONFIG", str(RUN / "admin.kubeconfig"))
    with cluster() as target:
        assert (target.host, target.is_own) == ("10.243.0.254", True)
        assert "BINDERY_TEST_HOST" not in environment_of(target)
