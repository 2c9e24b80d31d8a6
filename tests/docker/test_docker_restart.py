"""An engine that is restarted in the middle of a build, as an operator does it for an update."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.docker.conftest import start_stack
from tests.support.engine import OUR_HOST, Engine, docker
from tests.support.polling import eventually
from tests.support.stack_builds import StackBuilder

BRIDGE = "bindery-bd0"


class Daemon:
    """A dockerd of the test's own; it may be ended and started again on its data.

    Its bridge is its own too: one that is told to have none removes docker0, which is the other engine's.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = f"unix://{folder}/docker.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [
            "dockerd", "--host", self.host, "--data-root", f"{self.folder}/data", "--exec-root", f"{self.folder}/exec",
            "--pidfile", f"{self.folder}/docker.pid", "--bridge", BRIDGE, "--iptables=false",
        ]  # fmt: skip
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        eventually(self._answers, "dockerd answers", 60)

    def _answers(self) -> bool:
        with contextlib.suppress(subprocess.SubprocessError):
            docker(self.host, "version", seconds=5)
            return True
        return False

    def stop(self) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait(60)
            self._process = None


@pytest.fixture
def daemon(docker: Engine) -> Iterator[Daemon]:
    if docker.host != OUR_HOST or os.geteuid() != 0:
        pytest.skip("an engine that is not ours is not restarted")
    folder = Path(tempfile.mkdtemp(prefix="bd-"))  # a socket's path is short
    daemon = Daemon(folder)
    subprocess.run(["ip", "link", "add", BRIDGE, "type", "bridge"], check=True)
    try:
        subprocess.run(["ip", "addr", "add", "172.31.255.1/28", "dev", BRIDGE], check=True)
        daemon.start()
        with subprocess.Popen(
            ["docker", "--host", docker.host, "save", docker.builder, docker.base], stdout=-1
        ) as saved:
            subprocess.run(
                ["docker", "--host", daemon.host, "load"], stdin=saved.stdout, check=True, capture_output=True
            )
        yield daemon
    finally:
        daemon.stop()
        subprocess.run(["ip", "link", "delete", BRIDGE], check=False)
        subprocess.run(["sh", "-c", f"umount {folder}/exec/netns/* {folder}/data"], capture_output=True, check=False)
        shutil.rmtree(folder)


def test_a_build_whose_engine_is_restarted_waits_for_it_and_is_run_again(
    docker: Engine, daemon: Daemon, repository: Callable[[str], tuple[str, str]], tmp_path: Path
) -> None:
    steps = f"RUN : {uuid4()}; for i in $(seq 100); do echo tick-$i-; sleep 0.1; done\n"
    url, sha = repository(f"FROM {docker.base}\n{steps}")
    stack = start_stack(tmp_path, docker, "local/restart-", build_push="false", docker_host=daemon.host)
    try:
        with contextlib.closing(StackBuilder(stack)) as builder:
            pending = builder.request_build(url, sha)
            builder.until(pending["build_id"], "tick-5-")
            daemon.stop()
            builder.until(pending["build_id"], "Waiting for it ...")
            daemon.start()
            build = builder.outcome(pending["build_id"])
            assert build["state"] == "built", builder.text(pending["build_id"])
            assert "tick-100-" in builder.text(pending["build_id"])
            assert "The build is run again" in builder.text(pending["build_id"])
    finally:
        stack.stop()
