"""Who may reach whom, computed from the chart's network policies, is what the table in docs/helm.md says."""

import re
from ipaddress import ip_network
from pathlib import Path

import pytest
import yaml

from tests.chart.cases import CHART
from tests.chart.conftest import FilesOf
from tests.support.helm import Helm
from tests.support.network_policies import Endpoint, Network, Outside, Pod, Port, endpoints_of
from tests.support.page_commands import section, values_shown

PODS = (ip_network("10.244.0.0/16"),)
"""The cluster's network for pods, which an `ipBlock` may match."""
PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
METADATA = ("169.254.169.254", "100.100.100.200", "168.63.129.16", "fd00:ec2::254")
"""Where the clouds' machines are told who they are, and get credentials."""
GUESTS: tuple[Endpoint, ...] = (
    Pod(name="a user's server", namespace="bindery-servers", ports=[Port(8888)], ranges=PODS),
    Pod(
        name="a build", namespace="bindery-builds", labels={"app.kubernetes.io/component": "build"}, ranges=PODS,
        ports=[Port(9999)],
    ),
    Pod(name="other pods", namespace="default", ports=[Port(8080)], ranges=PODS),
    Pod(
        name="name servers", namespace="kube-system", labels={"k8s-app": "kube-dns"}, ranges=PODS,
        ports=[Port(53), Port(53, "UDP")],
    ),
    Outside(name="the internet", ranges=(ip_network("8.8.0.0/16"), ip_network("2001:4860::/32")), ports=[Port(443)]),
    Outside(
        name="private networks",
        ranges=[ip_network(each) for each in PRIVATE],
        ports=[Port(443)],
    ),
    Outside(
        name="metadata addresses",
        ranges=[ip_network(each) for each in METADATA],
        ports=[Port(80)],
    ),
)  # fmt: skip
OURS = ["gateway", "resolver", "builder", "worker", "launcher", "hub", "proxy", "redis", "registry", "engine"]
SOURCES = ["the internet", "other pods", *OURS, "a user's server", "a build"]
NAMES = [guest.name for guest in GUESTS]
BEYOND = {"other pods", "name servers", "the internet", "private networks", "metadata addresses"}


@pytest.fixture(scope="session")
def network(helm: Helm, files_of: FilesOf) -> Network:
    """The network of an installation that has all parts."""
    files = [*files_of("defaults"), *files_of("kind")]
    manifests = helm.template(CHART, values_files=files)
    ours = endpoints_of(manifests, namespace="bindery", pods=PODS)
    return Network(manifests, [*ours, *GUESTS], namespace="bindery")


def reached(network: Network, source: str) -> str:
    """Return what a source reaches, as the table has it."""
    shown = {each.name: each.name.removeprefix("bindery-") for each in network.endpoints}
    ports: dict[str, list[Port]] = {
        shown[target]: open_ports
        for (origin, target), open_ports in network.reach().items()
        if shown[origin] == source and open_ports
    }
    ports |= _to_the_outside(network, source)
    if set(ports) >= BEYOND - {source}:
        return ", ".join([*_cells(ports, [*OURS, "a user's server", "a build"]), "all that is not Bindery's"])
    return ", ".join(_cells(ports, [*OURS, *NAMES])) or "nothing"


def _to_the_outside(network: Network, source: str) -> dict[str, list[Port]]:
    by_name = {each.name.removeprefix("bindery-"): each for each in network.endpoints}
    return {
        name: [port for port in by_name[name].ports if network.allows(by_name[source], by_name[name], port)]
        for name in BEYOND
        if any(network.allows(by_name[source], by_name[name], port) for port in by_name[name].ports)
    }


def _cells(ports: dict[str, list[Port]], names: list[str]) -> list[str]:
    numbers = {name: ", ".join(map(str, sorted({port.number for port in ports[name]}))) for name in ports}
    return [f"{f'`{name}`' if name in OURS else name} ({numbers[name]})" for name in names if name in ports]


def table_of_the_page() -> dict[str, str]:
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", section("helm.md", "## Who may reach whom"), re.MULTILINE)
    return {source.strip("`"): targets for source, targets in rows[2:]}


def test_the_table_says_what_the_policies_allow(network: Network) -> None:
    assert table_of_the_page() == {source: reached(network, source) for source in SOURCES}


@pytest.mark.parametrize("guest", ["a user's server", "a build"])
def test_the_code_of_strangers_reaches_no_service_and_no_private_address(network: Network, guest: str) -> None:
    by_name = {each.name: each for each in network.endpoints}
    closed = [*(f"bindery-{part}" for part in OURS if part != "registry"), "private networks", "metadata addresses"]
    for name in [*closed, "a user's server", "a build", "other pods"]:
        for port in by_name[name].ports if name != guest else []:
            assert not network.allows(by_name[guest], by_name[name], port), (name, port)
    assert all(network.allows(by_name[guest], by_name["name servers"], port) for port in by_name["name servers"].ports)
    assert network.allows(by_name[guest], by_name["the internet"], Port(443))


def test_redis_is_for_the_services_alone(network: Network) -> None:
    by_name = {each.name: each for each in network.endpoints}
    redis = by_name["bindery-redis"]
    users = {each.name for each in network.endpoints if each != redis and network.allows(each, redis, Port(6379))}
    assert users == {f"bindery-{part}" for part in ("gateway", "resolver", "builder", "worker", "launcher")}


def test_the_hub_is_reached_by_whom_the_values_name_besides_ours(helm: Helm, files_of: FilesOf, tmp_path: Path) -> None:
    """By the launcher of a second installation, with the values that docs/helm.md shows for it."""
    files = [*files_of("defaults"), *files_of("kind")]
    shown = tmp_path / "shown.yaml"
    shown.write_text(yaml.safe_dump(values_shown("helm.md", "hubFrom")))
    labels = {"app.kubernetes.io/component": "launcher"}
    strangers = [
        Pod(name="the second's launcher", namespace="second", labels=labels),
        Pod(name="the second's gateway", namespace="second", labels={"app.kubernetes.io/component": "gateway"}),
        Pod(name="a third one's launcher", namespace="third", labels=labels),
    ]

    def who_reaches_the_hub(*more: Path) -> set[str]:
        manifests = helm.template(CHART, values_files=[*files, *more])
        network = Network(manifests, [*endpoints_of(manifests, namespace="bindery"), *strangers], namespace="bindery")
        [hub] = [each for each in network.endpoints if each.name == "bindery-hub"]
        return {each.name for each in network.endpoints if each != hub and network.allows(each, hub, Port(8081))}

    ours = {"bindery-launcher", "bindery-proxy"}
    assert who_reaches_the_hub() == ours
    assert who_reaches_the_hub(shown) == ours | {"the second's launcher"}
