"""The commands of docs/install.md and docs/helm.md for a cluster, typed one after another, do what the pages say."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.cluster import Cluster
from tests.support.engine import REGISTRY, Engine, registry_url
from tests.support.forge import Forge
from tests.support.full_chain import run_notebook, with_notebook
from tests.support.helm_release import HelmRelease
from tests.support.launching import Launching
from tests.support.page_commands import Background, Terminal, bare_clone, blocks, commands, section
from tests.support.paths import CHECKOUT
from tests.support.polling import eventually
from tests.support.service_images import build_environment

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800), pytest.mark.usefixtures("own_cluster")]
NAMESPACES = ("bindery", "bindery-builds", "bindery-servers")
"""As the pages name them; what is in them is removed, so these tests are not for a cluster elsewhere."""
INSTALL = section("install.md", "## On a cluster")
BLOCKS = {
    "## Installing": 2, "## Secrets": 1, "## Redis": 1, "## The registry": 1, "## The engine of builds": 1,
    "## Upgrading": 1, "## Removing": 2,
}  # fmt: skip
"""Blocks of commands in docs/helm.md; those about Redis are typed in test_chart_neighbours_long.py."""


class Forwarded(Launching):
    """Bindery as the reader sees it, by `kubectl port-forward`."""

    @property
    def url(self) -> str:
        return "http://127.0.0.1:8585"

    def hub_users(self) -> dict[str, list[str]]:
        raise AssertionError("the reader has no way to the hub: look at the page instead")


@pytest.fixture
def terminal(
    tmp_path: Path, the_cluster: Cluster, the_engine: Engine, chart_images: dict[str, Any]
) -> Iterator[Terminal]:
    """A reader's terminal, with kubectl and helm, an engine, and what of this cluster no page can know."""
    terminal = Terminal(tmp_path)
    terminal.environ |= {
        "PATH": f"{Path(the_cluster.kubectl_program).parent}:{terminal.environ['PATH']}",
        "KUBECONFIG": str(the_cluster.kubeconfig),
        "REGISTRY_USER": "reader",
        "REGISTRY_PASSWORD": "a password that this registry does not ask for",
        **{name: value for name, value in build_environment(the_engine).items() if name not in os.environ},
        "DOCKER_HOST": the_engine.host,
    }
    release = HelmRelease(
        tmp_path, cluster=the_cluster, engine=the_engine, images=chart_images, namespace=NAMESPACES[0]
    )
    assert (release.namespace, release.builds, release.servers) == NAMESPACES
    release.remove()  # what a run has left that was killed
    try:
        release.make_volumes()
        own = {name: release.values[name] for name in ("allowedNetworks", "engine", "redis", "hub")}
        own["images"] = {name: chart_images[name] for name in ("redis", "traefik")}
        own["registry"] = {"url": registry_url(the_cluster.host)}
        (tmp_path / "of-this-cluster.yaml").write_text(yaml.safe_dump(own))
        yield terminal
    finally:
        release.remove()


def typed(command: str, folder: Path) -> str:
    """Return a command of the pages with the reader's own registry and clone in it."""
    command = command.replace("<address of this repository>", str(folder / "bindery.git"))
    command = command.replace("registry.example.org/", f"{REGISTRY}/page/")
    chart = "deploy/helm/bindery"
    return re.sub(rf"(helm (install|upgrade) bindery {chart})", rf"\1 --values {folder}/of-this-cluster.yaml", command)


def helm_page(heading: str) -> list[str]:
    """Return the commands below a heading of docs/helm.md."""
    return commands(section("helm.md", heading))


def test_from_a_checkout_to_a_kernel_through_an_upgrade_and_back_to_nothing(
    tmp_path: Path, terminal: Terminal, forge: Forge, the_engine: Engine, the_cluster: Cluster
) -> None:
    bare_clone(tmp_path)
    repository = with_notebook(forge, "page", the_engine.jupyter)
    *to_install, forward, uninstall = commands(INSTALL)
    for command in to_install:
        said = terminal.type(typed(command, tmp_path))
    assert "port-forward service/bindery-proxy 8585:80" in said

    stack = Forwarded()
    with Background.start(forward, terminal) as forwarding:
        forwarding.until_says("Forwarding from 127.0.0.1:8585", 30)
        run_notebook(repository.launch(stack), repository)
        for command in helm_page("## Upgrading"):
            terminal.type(typed(command, tmp_path))

    with Background.start(forward, terminal) as forwarding:
        forwarding.until_says("Forwarding from 127.0.0.1:8585", 30)
        run_notebook(repository.launch(stack), repository)
    tags = the_cluster.kubectl("-n", "bindery", "get", "pods", "-o", "jsonpath={.items[*].spec.containers[*].image}")
    assert {image.rpartition(":")[2] for image in tags.split() if f"{REGISTRY}/page/" in image} == {"2"}

    remove, *remove_data = helm_page("## Removing")
    assert remove == uninstall
    terminal.type(remove)
    for command in remove_data:
        terminal.type(command)
    eventually(lambda: not any(the_cluster.has("namespace", name) for name in NAMESPACES), "nothing is left", 120)


def test_a_secret_of_ones_own_has_what_a_rendering_without_a_cluster_asks_for(
    tmp_path: Path, terminal: Terminal, the_cluster: Cluster
) -> None:
    bare_clone(tmp_path)
    terminal.type(f"git clone --quiet {tmp_path}/bindery.git bindery")
    terminal.folder = tmp_path / "bindery"
    install = typed(commands(INSTALL)[3], tmp_path)
    render = re.sub("helm install (.*) --create-namespace --wait --timeout 10m", r"helm template \1", install)
    with Background.start(f"{render} --kube-version 1.34.0", terminal) as refused:
        said = refused.until_says("Make a Secret with the keys", 30)
    asked_for = re.findall(r"[a-z]+(?:-[a-z]+)+", said.partition("with the keys")[2].partition(", and name it")[0])

    terminal.type("\n".join(blocks(section("helm.md", "## Secrets"))))
    made = the_cluster.kubectl("-n", "bindery", "get", "secret", "bindery-secrets", "-o", "jsonpath={.data}")
    assert set(json.loads(made)) == set(asked_for)
    assert "kind: Deployment" in terminal.type(f"{render} --kube-version 1.34.0 --set secrets.existing=bindery-secrets")
    terminal.type(f"{install} --set secrets.existing=bindery-secrets --dry-run=server")


def test_the_page_has_no_other_blocks_of_commands() -> None:
    assert {heading: len(blocks(section("helm.md", heading))) for heading in BLOCKS} == BLOCKS
    assert len(blocks((CHECKOUT / "docs" / "helm.md").read_text())) == sum(BLOCKS.values())
    assert [command for command in helm_page("## Installing") if command not in commands(INSTALL)] == []
