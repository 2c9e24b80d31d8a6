"""The code of strangers reaches what it may whatever the values, in namespaces of its own or in that of the release."""

from collections.abc import Sequence
from ipaddress import ip_network

import pytest
import yaml

from deploy.jupyterhub.labels import labels_of
from services.builder.executors.kubernetes.manifest import COMPONENT
from tests.chart.cases import CASES, CHART
from tests.chart.conftest import FilesOf
from tests.support.helm import Helm, Manifest
from tests.support.network_policies import Network, Outside, Pod, Port, endpoints_of

BUILD, ENGINE, SERVER = "a build", "bindery-engine", "a user's server"
PODS = (ip_network("10.42.0.0/16"),)
NODES = (ip_network("192.168.7.0/24"),)
WEB, DNS = Port(443), Port(53, "UDP")
NAME_SERVERS = Pod(name="name servers", namespace="kube-system", ports=(DNS,), ranges=PODS)
OTHERS = Pod(name="other pods", namespace="others", ports=(WEB,), ranges=PODS)
NEIGHBOURS = (
    NAME_SERVERS,
    OTHERS,
    Outside(name="internet", ranges=(ip_network("1.1.1.1"), ip_network("2606:4700::1111")), ports=(WEB,)),
    Outside(name="private networks", ranges=(ip_network("10.0.0.0/8"), ip_network("fc00::/7")), ports=(WEB,)),
    Outside(name="metadata", ranges=(ip_network("169.254.169.254"), ip_network("168.63.129.16")), ports=(WEB,)),
    Outside(name="nodes", ranges=NODES, ports=(WEB, Port(6443), Port(10250))),
)


def network(rendered: Sequence[Manifest]) -> Network:
    """Return the chart's parts, and a build and a server as worker and hub would make them."""
    variables = {
        variable["name"]: variable.get("value", "")
        for each in rendered
        if each["kind"] == "StatefulSet"
        for container in each["spec"]["template"]["spec"]["containers"]
        for variable in container.get("env", [])
    }
    (settings,) = (each["data"] for each in rendered if each["metadata"]["name"] == "bindery-settings")
    worker = yaml.safe_load(settings["worker.yaml"])
    build = Pod(
        name=BUILD,
        namespace=worker["kubernetes_namespace"],
        labels={"app": "bindery", "component": COMPONENT} | worker["kubernetes_labels"],
        ports=(WEB,),
        ranges=PODS,
    )
    server = Pod(
        name=SERVER,
        namespace=variables.get("BINDERY_SERVERS_NAMESPACE", "bindery-servers"),
        labels=labels_of({"bindery_installation": "a", "bindery_launch_ref": "b"}),
        ports=(WEB,),
        ranges=PODS,
    )
    parts = endpoints_of(rendered, namespace="bindery", pods=PODS, nodes=NODES)
    return Network(rendered, [*parts, build, server, *NEIGHBOURS], namespace="bindery")


@pytest.mark.parametrize("case", [case for case in CASES if case != "without-network-policies"])
def test_builds_engines_and_servers_reach_and_are_reached_as_little_as_by_default(
    case: str, helm: Helm, files_of: FilesOf
) -> None:
    seen = network(helm.template(CHART, values_files=files_of(case)))
    names = {endpoint.name for endpoint in seen.endpoints}
    ways = [way for way, ports in seen.reach().items() if ports]
    of_servers = {"name servers", "internet"}
    of_builds = of_servers | (names & {"bindery-registry"})

    assert {target for source, target in ways if source == BUILD} == of_builds
    assert ENGINE not in names or {target for source, target in ways if source == ENGINE} == of_builds
    assert not {source for source, target in ways if target == BUILD}
    if "bindery-hub" in names:  # a hub of the operator's own has policies of its own
        assert {target for source, target in ways if source == SERVER} == of_servers
        assert {source for source, target in ways if target == SERVER} == {"bindery-hub", "bindery-proxy"}
