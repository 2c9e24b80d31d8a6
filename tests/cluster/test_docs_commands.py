"""The commands of docs/builders.md about Kubernetes and workers do what the page says, one after the other."""

import json
import os
import re
import subprocess
from pathlib import Path

from tests.cluster.conftest import Start
from tests.support.builder_processes import OPERATOR, TOKEN
from tests.support.cluster import BUILDS, Cluster, Namespace
from tests.support.paths import CHECKOUT

PAGE = (CHECKOUT / "docs" / "builders.md").read_text()
COMMANDS = [
    block for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) if block.startswith(("kubectl ", "curl "))
]
URL = "https://example.org/org/repo"


def test_the_commands_of_the_page_do_what_it_says(
    start_noop: Start, namespace: Namespace, the_cluster: Cluster, tmp_path: Path
) -> None:
    builders = start_noop()
    build_id = builders.request_build(URL, "docs.push-0.sleep-300")["build_id"]
    builders.until_logged(build_id, "those were 3 lines")
    new_namespace = f"{namespace.name}-made"
    folder = tmp_path / "deploy" / "kubernetes"
    folder.mkdir(parents=True)
    (folder / "builder.yaml").write_text(BUILDS.manifest.read_text().replace("bindery-builds", new_namespace))
    (tmp_path / "config.json").write_text("{}")
    environ = {
        **os.environ, "KUBECONFIG": str(the_cluster.kubeconfig), "BUILD": build_id, "BUILDER": builders.api.url,
        "SERVICE_TOKEN": TOKEN, "OPERATOR_TOKEN": OPERATOR, "NO_PROXY": "*",
        "PATH": f"{Path(the_cluster.kubectl_program).parent}:{os.environ['PATH']}",
    }  # fmt: skip

    def run(block: str, where: str) -> str:
        process = subprocess.run(
            ["sh", "-ec", block.replace("bindery-builds", where)], cwd=tmp_path, env=environ, capture_output=True,
            text=True, timeout=60, check=False,
        )  # fmt: skip
        assert process.returncode == 0, f"{block}{process.stderr}"
        return process.stdout

    rights, level, push, look, cancel, queue = COMMANDS
    try:
        assert run(rights, new_namespace).endswith("yes\n")
        assert "labeled" in run(level, new_namespace)
        assert "created" in run(push, new_namespace)
    finally:
        the_cluster.kubectl("delete", "namespace", new_namespace, "--wait=false", is_checked=False)
    output = run(look, namespace.name)
    assert f"job.batch/bindery-{build_id}" in output
    assert "those were 3 lines" in output
    assert json.loads(run(queue, namespace.name))
    run(cancel, namespace.name)
    assert builders.outcome(build_id)["state"] == "cancelled"


def test_the_manifest_gives_no_more_rights_than_it_says(the_cluster: Cluster, namespace: Namespace) -> None:
    account = f"system:serviceaccount:{namespace.name}:bindery-builder"

    def may(*arguments: str, where: str = namespace.name) -> bool:
        return (
            the_cluster.kubectl("auth", "can-i", *arguments, f"--as={account}", "-n", where, is_checked=False)
            == "yes\n"
        )

    assert may("create", "secrets")
    for right in (("get", "secrets"), ("list", "secrets"), ("delete", "secrets"), ("create", "pods"),
                    ("delete", "pods"), ("create", "pods/exec"), ("list", "nodes"), ("get", "configmaps")):  # fmt: skip
        assert not may(*right), right
    assert not may("create", "jobs.batch", where="default")
