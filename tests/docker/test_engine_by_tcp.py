"""An engine that is reached at an address: by the worker, and by repo2docker in its container."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from tests.docker.conftest import start_stack, until_tidy
from tests.support.docker_registry import Registry
from tests.support.engine import Engine
from tests.support.stack_builds import StackBuilder
from tests.support.tcp_proxy import relay


def test_a_build_by_an_engine_at_a_tcp_address_is_pushed_and_no_socket_is_in_its_container(
    docker: Engine, registry: Registry, repository: Callable[[str], tuple[str, str]], tmp_path: Path
) -> None:
    steps = f"RUN : {uuid4()}; for i in $(seq 50); do echo tick-$i-; sleep 0.1; done\n"
    url, sha = repository(f"FROM {docker.base}\n{steps}")
    with relay(docker.socket) as address:
        stack = start_stack(tmp_path, docker, f"{registry.address}/by-tcp/", docker_host=address)
        try:
            with contextlib.closing(StackBuilder(stack)) as builder:
                pending = builder.request_build(url, sha)
                builder.until(pending["build_id"], "tick-3-")
                [container] = json.loads(docker.docker("inspect", f"bindery-{pending['build_id']}"))
                assert container["Mounts"] == []
                assert f"DOCKER_HOST={address}" in container["Config"]["Env"]
                build = builder.outcome(pending["build_id"])
                assert build["state"] == "built", builder.text(pending["build_id"])
                assert "tick-50-" in builder.text(pending["build_id"])
                until_tidy(docker, pending["build_id"])
        finally:
            stack.stop()
    name = build["image"].rpartition(":")[0].partition("/")[2]
    assert registry.call("GET", f"/v2/{name}/manifests/{build['digest']}").status == 200
