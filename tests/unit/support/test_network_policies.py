"""What a policy says of a pod is what a cluster would let it do."""

from ipaddress import ip_network
from typing import Any

import pytest

from tests.support.helm import Manifest
from tests.support.network_policies import Network, Outside, Pod, PolicyError, Port, endpoints_of

WEB = Port(8000, name="http")
METRICS = Port(9000, name="metrics")
DNS = Port(53, "UDP", "dns")

PODS = (ip_network("10.42.0.0/16"),)
GATEWAY = Pod(name="gateway", namespace="ours", labels={"app": "gateway"}, ports=(WEB, METRICS))
REDIS = Pod(name="redis", namespace="ours", labels={"app": "redis"}, ports=(Port(6379),))
SERVER = Pod(name="server", namespace="users", labels={"app": "server"}, ports=(Port(8888),))
RESOLVER = Pod(name="name server", namespace="kube-system", labels={"app": "dns"}, ports=(DNS,))
INTERNET = Outside(name="internet", ranges=(ip_network("1.1.1.1"), ip_network("2606:4700::1111")), ports=(Port(443),))
CLOUD = Outside(name="metadata", ranges=(ip_network("169.254.169.254"),), ports=(Port(80),))
INTRANET = Outside(name="intranet", ranges=(ip_network("10.0.0.0/8"),), ports=(Port(443),))
ALL = (GATEWAY, REDIS, SERVER, RESOLVER, INTERNET, CLOUD, INTRANET)
USERS = {"kind": "Namespace", "metadata": {"name": "users", "labels": {"for": "users"}}}


def policy(app: str | None, namespace: str | None = "ours", **spec: Any) -> Manifest:
    """Return a policy for the pods of an app; None: for all of the namespace."""
    selector = {"matchLabels": {"app": app}} if app else {}
    metadata = {"name": f"policy-{app}"} | ({"namespace": namespace} if namespace else {})
    return {"kind": "NetworkPolicy", "metadata": metadata, "spec": {"podSelector": selector, **spec}}


def network(*policies: Manifest) -> Network:
    return Network([USERS, *policies], ALL, namespace="ours")


def sources(target: Pod, port: Port, *policies: Manifest) -> set[str]:
    """Return who reaches that port of a pod."""
    net = network(*policies)
    return {each.name for each in ALL if each != target and net.allows(each, target, port)}


def targets(source: Pod, *policies: Manifest) -> set[str]:
    """Return whom a pod reaches, at the first port."""
    net = network(*policies)
    return {each.name for each in ALL if each != source and net.allows(source, each, each.ports[0])}


def names(*but: str) -> set[str]:
    return {each.name for each in ALL} - set(but)


def test_a_pod_that_no_policy_selects_is_open_both_ways() -> None:
    others = policy("redis", ingress=[], egress=[], policyTypes=["Ingress", "Egress"])

    assert sources(GATEWAY, WEB, others) == names("gateway", "redis")
    assert targets(GATEWAY, others) == names("gateway", "redis")


@pytest.mark.parametrize("spec", [{}, {"ingress": []}, {"ingress": None}, {"policyTypes": ["Ingress"]}])
def test_a_selected_pod_is_shut_where_no_rule_opens_it(spec: dict[str, Any]) -> None:
    assert sources(GATEWAY, WEB, policy("gateway", **spec)) == set()
    assert targets(GATEWAY, policy("gateway", **spec)) == names("gateway")


def test_a_policy_with_an_egress_rule_governs_egress_and_ingress() -> None:
    with_rule = policy("gateway", egress=[{"to": [{"podSelector": {"matchLabels": {"app": "redis"}}}]}])

    assert targets(GATEWAY, with_rule) == {"redis"}
    assert sources(GATEWAY, WEB, with_rule) == set()


def test_a_policy_of_egress_alone_leaves_ingress_open() -> None:
    egress = policy("gateway", policyTypes=["Egress"])

    assert targets(GATEWAY, egress) == set()
    assert sources(GATEWAY, WEB, egress) == names("gateway")


def test_rules_of_a_direction_that_the_policy_does_not_govern_say_nothing() -> None:
    egress = policy("gateway", policyTypes=["Egress"], ingress=[{"from": [{"podSelector": {}}]}])

    assert sources(GATEWAY, WEB, egress) == names("gateway")


def test_policies_of_a_pod_add_up() -> None:
    shut = policy("gateway", policyTypes=["Ingress"])
    from_redis = policy("gateway", ingress=[{"from": [{"podSelector": {"matchLabels": {"app": "redis"}}}]}])
    from_users = policy(None, ingress=[{"from": [{"namespaceSelector": {"matchLabels": {"for": "users"}}}]}])

    assert sources(GATEWAY, WEB, shut, from_redis, from_users) == {"redis", "server"}


def test_a_connection_needs_the_leave_of_both_ends() -> None:
    out = policy(
        "gateway", policyTypes=["Egress"], egress=[{"to": [{"podSelector": {"matchLabels": {"app": "redis"}}}]}]
    )
    into = policy("redis", ingress=[{"from": [{"podSelector": {"matchLabels": {"app": "resolver"}}}]}])

    assert targets(GATEWAY, out) == {"redis"}
    assert targets(GATEWAY, out, into) == set()


def test_a_policy_without_a_namespace_is_in_that_of_the_release() -> None:
    assert sources(GATEWAY, WEB, policy("gateway", namespace=None)) == set()
    assert sources(SERVER, SERVER.ports[0], policy("server", namespace=None)) == names("server")


def test_a_pod_reaches_itself_whatever_the_policies() -> None:
    assert network(policy(None, policyTypes=["Ingress", "Egress"])).allows(GATEWAY, GATEWAY, WEB)


@pytest.mark.parametrize("peers", [{}, {"from": []}, {"from": None}])
def test_a_rule_without_peers_is_for_all(peers: dict[str, Any]) -> None:
    assert sources(GATEWAY, WEB, policy("gateway", ingress=[peers])) == names("gateway")


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        ({"podSelector": {}}, {"redis"}),
        ({"podSelector": {"matchLabels": {"app": "server"}}}, set()),
        ({"namespaceSelector": {}}, {"redis", "server", "name server"}),
        ({"namespaceSelector": {"matchLabels": {"for": "users"}}}, {"server"}),
        ({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}, {"name server"}),
        ({"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "server"}}}, {"server"}),
        (
            {"namespaceSelector": {"matchLabels": {"for": "users"}}, "podSelector": {"matchLabels": {"app": "redis"}}},
            set(),
        ),
        ({"ipBlock": {"cidr": "0.0.0.0/0"}}, {"internet", "metadata", "intranet"}),
    ],
)
def test_a_peer_is_all_that_its_element_says_at_once(peer: dict[str, Any], expected: set[str]) -> None:
    assert sources(GATEWAY, WEB, policy("gateway", ingress=[{"from": [peer]}])) == expected


def test_two_elements_of_a_rule_are_alternatives() -> None:
    peers = [
        {"namespaceSelector": {"matchLabels": {"for": "users"}}},
        {"podSelector": {"matchLabels": {"app": "redis"}}},
    ]

    assert sources(GATEWAY, WEB, policy("gateway", ingress=[{"from": peers}])) == {"redis", "server"}


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ({"cidr": "0.0.0.0/0"}, {"internet", "metadata", "intranet"}),
        ({"cidr": "::/0"}, {"internet"}),
        ({"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}, {"internet", "intranet"}),
        ({"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8", "169.254.169.254/32"]}, {"internet"}),
        ({"cidr": "0.0.0.0/0", "except": ["10.0.0.0/9"]}, {"internet", "metadata", "intranet"}),
        ({"cidr": "0.0.0.0/0", "except": ["10.0.0.0/9", "10.128.0.0/9"]}, {"internet", "metadata"}),
        ({"cidr": "10.1.0.0/16"}, {"intranet"}),
        ({"cidr": "10.1.0.0/16", "except": ["10.1.0.0/17"]}, {"intranet"}),
        ({"cidr": "192.168.0.0/16"}, set()),
    ],
)
def test_an_address_is_in_a_block_without_its_exceptions(block: dict[str, Any], expected: set[str]) -> None:
    egress = policy("server", "users", policyTypes=["Egress"], egress=[{"to": [{"ipBlock": block}]}])

    assert targets(SERVER, egress) == expected


def test_a_pod_with_a_range_is_matched_by_a_block() -> None:
    anywhere = policy("server", "users", policyTypes=["Egress"], egress=[{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}])
    somewhere = Pod(name="somewhere", namespace="ours", labels={}, ports=(WEB,), ranges=PODS)
    net = network(anywhere)

    assert net.allows(SERVER, somewhere, WEB)
    assert not net.allows(SERVER, GATEWAY, WEB)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"port": 8000}, [WEB]),
        ({"port": "http"}, [WEB]),
        ({"port": "http", "protocol": "TCP"}, [WEB]),
        ({"port": "http", "protocol": "UDP"}, []),
        ({"port": "web"}, []),
        ({"port": 8000, "endPort": 9000}, [WEB, METRICS]),
        ({"port": 8001, "endPort": 8999}, []),
        ({"port": 8001, "endPort": 9001}, [METRICS]),
        ({}, [WEB, METRICS]),
        ({"protocol": "TCP"}, [WEB, METRICS]),
        ({"protocol": "UDP"}, []),
    ],
)
def test_a_port_is_named_numbered_or_in_a_range(said: dict[str, Any], expected: list[Port]) -> None:
    net = network(policy("gateway", ingress=[{"ports": [said]}]))

    assert [port for port in GATEWAY.ports if net.allows(REDIS, GATEWAY, port)] == expected


def test_a_rule_opens_its_ports_to_its_peers_alone() -> None:
    web_to_redis = {"ports": [{"port": 8000}], "from": [{"podSelector": {}}]}
    metrics_to_users = {"ports": [{"port": 9000}], "from": [{"namespaceSelector": {"matchLabels": {"for": "users"}}}]}
    both = policy("gateway", ingress=[web_to_redis, metrics_to_users])

    assert sources(GATEWAY, WEB, both) == {"redis"}
    assert sources(GATEWAY, METRICS, both) == {"server"}


def test_a_named_port_of_egress_is_the_targets() -> None:
    named = policy("server", "users", policyTypes=["Egress"], egress=[{"ports": [{"port": "http"}]}])
    udp = policy("server", "users", policyTypes=["Egress"], egress=[{"ports": [{"port": 53, "protocol": "UDP"}]}])

    assert targets(SERVER, named) == {"gateway"}
    assert targets(SERVER, udp) == {"name server"}


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ({"from": [{}]}, "either an ipBlock or selectors"),
        ({"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}, "podSelector": {}}]}, "either an ipBlock or selectors"),
        ({"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["0.0.0.0/0"]}}]}, "not inside its block"),
        ({"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8"]}}]}, "not inside its block"),
        ({"from": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["::/1"]}}]}, "not inside its block"),
        ({"ports": [{"port": "http", "endPort": 80}]}, "endPort needs a number"),
        ({"ports": [{"endPort": 80}]}, "endPort needs a number"),
    ],
)
def test_a_rule_that_a_server_refuses_is_refused(rule: dict[str, Any], reason: str) -> None:
    with pytest.raises(PolicyError, match=reason):
        network(policy("gateway", ingress=[rule])).allows(INTRANET, GATEWAY, WEB)


def test_the_table_has_the_open_ports_of_each_pair_with_a_pod() -> None:
    net = Network(
        [policy("gateway", ingress=[{"ports": [{"port": "http"}]}])], [GATEWAY, INTERNET, CLOUD], namespace="ours"
    )

    assert net.reach() == {
        ("gateway", "internet"): [Port(443)],
        ("gateway", "metadata"): [Port(80)],
        ("internet", "gateway"): [WEB],
        ("metadata", "gateway"): [WEB],
    }


def test_endpoints_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two have one name"):
        Network([], [GATEWAY, GATEWAY], namespace="ours")


def workload(kind: str, name: str, spec: dict[str, Any], **metadata: str) -> Manifest:
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "a"}], **spec}}
    if kind == "CronJob":
        return {"kind": kind, "metadata": {"name": name}, "spec": {"jobTemplate": {"spec": {"template": template}}}}
    return {"kind": kind, "metadata": {"name": name, **metadata}, "spec": {"template": template}}


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob"])
def test_a_workloads_pods_are_an_endpoint_with_their_labels(kind: str) -> None:
    (found,) = endpoints_of([workload(kind, "hub", {}), USERS], namespace="ours", pods=PODS)

    assert found == Pod(name="hub", namespace="ours", labels={"app": "hub"}, ranges=PODS)


def test_a_pod_is_an_endpoint_in_its_own_namespace() -> None:
    pod = {
        "kind": "Pod",
        "metadata": {"name": "probe", "namespace": "users", "labels": {"app": "probe"}},
        "spec": {"containers": [{"name": "a"}]},
    }

    assert endpoints_of([pod], namespace="ours") == [Pod(name="probe", namespace="users", labels={"app": "probe"})]


def test_ports_are_those_of_all_containers() -> None:
    spec = {
        "containers": [{"name": "a", "ports": [{"containerPort": 8000, "name": "http"}]}, {"name": "b"}],
        "initContainers": [{"name": "c", "ports": [{"containerPort": 53, "protocol": "UDP", "name": "dns"}]}],
    }
    (found,) = endpoints_of([workload("Deployment", "hub", spec)], namespace="ours")

    assert found.ports == (WEB, DNS)


def test_pods_on_the_nodes_network_have_no_policies() -> None:
    nodes = (ip_network("192.168.0.0/24"),)
    engine = workload("DaemonSet", "engine", {"hostNetwork": True}, namespace="users")

    assert endpoints_of([engine], namespace="ours", pods=PODS, nodes=nodes) == [Outside(name="engine", ranges=nodes)]
