"""What the chart's engine of builds sees to before it starts, and how it makes room on its disk."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.paths import CHECKOUT

FILES = CHECKOUT / "deploy" / "helm" / "bindery" / "files"
GIB = 1 << 30


@dataclass(frozen=True)
class Node:
    """A folder in place of a node's root, and programs that record how they are called."""

    root: Path

    def write(self, path: str, text: str) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def read(self, path: str) -> str:
        return (self.root / path).read_text().strip()

    def program(self, name: str, script: str = "") -> None:
        """Put a program on the path that adds its name and arguments to `calls`."""
        self.write(f"bin/{name}", f'#!/bin/sh\necho "{name} $*" >>"{self.root}/calls"\n{script}\n').chmod(0o755)

    @property
    def calls(self) -> list[str]:
        file = self.root / "calls"
        return file.read_text().splitlines() if file.exists() else []

    def run(self, script: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        path = f"{self.root}/bin:{os.environ['PATH']}"
        socket = self.write("run/docker.sock", "")
        environ = {"PATH": path, "ROOT": str(self.root), "DOCKER_HOST": f"unix://{socket}", "OWN_MEMORY_MIB": "512"}
        command = ["sh", str(FILES / script), *arguments]
        return subprocess.run(
            command, env={**environ, "MTU": "0", **variables}, capture_output=True, text=True, timeout=30, check=False
        )


@pytest.fixture
def node(tmp_path: Path) -> Node:
    node = Node(tmp_path)
    node.program("dockerd-entrypoint.sh")
    node.program("mount")
    node.write("proc/net/route", "Iface\tDestination\tGateway\neth0\t0000F40A\t00000000\neth1\t00000000\t0100F40A\n")
    node.write("sys/class/net/eth1/mtu", "1450\n")
    return node


def limited(node: Node, version: int, limit: str) -> tuple[str, str]:
    """Give the pod a limit; return the files with that of steps, and of processes of the engine itself."""
    if version == 1:
        node.write("sys/fs/cgroup/memory/memory.limit_in_bytes", limit)
        return "sys/fs/cgroup/memory/docker/memory.limit_in_bytes", ""
    node.write("proc/self/cgroup", "0::/kubepods/pod1/engine\n")
    node.write("sys/fs/cgroup/cgroup.controllers", "cpu memory pids\n")
    node.write("sys/fs/cgroup/memory.max", limit)
    return "sys/fs/cgroup/docker/memory.max", "sys/fs/cgroup/init/cgroup.procs"


@pytest.mark.parametrize("version", [1, 2])
def test_steps_have_what_the_engine_leaves_of_the_pods_limit(node: Node, version: int) -> None:
    steps, _ = limited(node, version, f"{4 * GIB}\n")
    result = node.run("start-engine.sh", "dockerd", "--debug")
    assert (result.returncode, result.stderr) == (0, "")
    assert node.read(steps) == str(4 * GIB - (512 << 20))
    assert node.calls[-1] == "dockerd-entrypoint.sh dockerd --debug --mtu=1450"


@pytest.mark.parametrize(("version", "limit"), [(1, "9223372036854771712\n"), (2, "max\n")])
def test_without_a_limit_steps_have_none(node: Node, version: int, limit: str) -> None:
    steps, _ = limited(node, version, limit)
    assert node.run("start-engine.sh", "dockerd").returncode == 0
    assert not (node.root / steps).exists()


@pytest.mark.parametrize("version", [1, 2])
def test_a_limit_that_leaves_nothing_to_steps_is_refused(node: Node, version: int) -> None:
    limited(node, version, f"{512 << 20}\n")
    result = node.run("start-engine.sh", "dockerd")
    assert result.returncode == 1
    assert "The engine's memory limit of 536870912 bytes leaves none to steps: 512 MiB are its own" in result.stderr
    assert [call for call in node.calls if "dockerd" in call] == []


def test_with_version_2_of_cgroups_steps_are_below_the_pod(node: Node) -> None:
    _, own = limited(node, 2, "max")
    assert node.run("start-engine.sh", "dockerd").returncode == 0
    cgroups = f"{node.root}/sys/fs/cgroup"
    assert node.calls[0] == f"mount --bind {cgroups}/kubepods/pod1/engine {cgroups}"
    assert node.read("sys/fs/cgroup/cgroup.subtree_control") == "+cpu +memory +pids"
    assert node.read(own).isdigit()


def test_the_largest_packet_may_be_given_and_is_unknown_without_a_route(node: Node) -> None:
    assert node.run("start-engine.sh", "dockerd", MTU="1400").returncode == 0
    node.write("proc/net/route", "Iface\tDestination\tGateway\n")
    assert node.run("start-engine.sh", "dockerd").returncode == 0
    assert node.calls == ["dockerd-entrypoint.sh dockerd --mtu=1400", "dockerd-entrypoint.sh dockerd"]


CLOSED = "-t mangle -A PREROUTING ! -i lo -p tcp --dport 5000 -j DROP"


@pytest.mark.parametrize(("status", "calls"), [(0, [f"iptables {CLOSED}"]), (3, [f"iptables {CLOSED}"] * 2)])
def test_no_step_reaches_a_registry_without_login(node: Node, status: int, calls: list[str]) -> None:
    node.program("iptables", f"exit {status}")
    node.program("iptables-legacy")
    assert node.run("start-engine.sh", "dockerd", REGISTRY_PORT="5000").returncode == 0
    assert [call.replace("-legacy", "") for call in node.calls[:-1]] == calls


def test_an_engine_whose_steps_would_reach_that_registry_does_not_start(node: Node) -> None:
    node.program("iptables", "exit 3")
    node.program("iptables-legacy", "exit 3")
    assert node.run("start-engine.sh", "dockerd", REGISTRY_PORT="5000").returncode == 3
    assert [call for call in node.calls if "dockerd" in call] == []


def test_while_there_is_no_engine_there_is_no_socket(node: Node) -> None:
    socket = node.root / "run" / "docker.sock"
    node.program("dockerd-entrypoint.sh", f'ls "{socket}" >>"{node.root}/calls"; touch "{socket}"; exit 7')
    assert node.run("start-engine.sh", "dockerd").returncode == 7
    assert node.calls == ["dockerd-entrypoint.sh dockerd --mtu=1450"]
    assert not socket.exists()


def test_an_engine_is_told_to_end_and_has_its_time(node: Node) -> None:
    ending = 'trap "echo ending >>calls; exit 0" TERM; kill -TERM $PPID; while :; do sleep 0.1; done'
    node.program("dockerd-entrypoint.sh", f'cd "{node.root}"; {ending}')
    assert node.run("start-engine.sh", "dockerd").returncode == 0
    assert node.calls[-1] == "ending"


HOUR = "docker image prune --all --force --filter until=1h"
DAY = "docker builder prune --all --force --filter until=24h"
ALL = "docker builder prune --all --force"


@pytest.mark.parametrize(
    ("used", "removed"),
    [("79", []), ("80 80 79 79 79", [HOUR]), ("95 95 95 79 79", [HOUR, DAY]), ("95 95 95 95 90", [HOUR, DAY, ALL])],
)
def test_a_full_disk_loses_images_then_old_cache_then_all_cache(node: Node, used: str, removed: list[str]) -> None:
    node.write("uses", "\n".join(used.split()) + "\n")
    first = f'use=$(head -n 1 "{node.root}/uses"); sed -i 1d "{node.root}/uses"'
    node.program("df", f'{first}; printf "Filesystem Size Used Free Use%% On\\n/dev/a 9 8 1 %s%% /data\\n" "$use"')
    node.program("docker", "echo Total reclaimed space: 7GB")
    node.program("sleep", "exit 3")
    result = node.run("clean-engine.sh", DATA_FOLDER="/data", DISK_PERCENT="80", EVERY_SECONDS="60")
    assert result.returncode == 3, result.stderr
    assert [call for call in node.calls if call.startswith("docker")] == removed
    assert node.read("uses") == "", "the disk was measured as often as it should be"
