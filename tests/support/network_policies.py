"""Who may reach whom under NetworkPolicies (networking.k8s.io/v1), computed from the objects alone.

Pods are reached at their own addresses, not through a Service. An endpoint's address may be a range, of which one
address that gets through is enough. Network plug-ins differ in whether an `ipBlock` matches pods: a pod with a range is
matched by it, and one without is not, so give pods a range to ask what is shut, and none to ask what is open. What a
node may do with its own pods (probes of the kubelet) is not asked here: it is always allowed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network
from typing import Any

from tests.support.helm import Manifest
from tests.support.label_selectors import matches

Range = IPv4Network | IPv6Network
_NAME_LABEL = "kubernetes.io/metadata.name"


class PolicyError(Exception):
    """A policy says what a server would refuse."""


@dataclass(frozen=True, order=True)
class Port:
    """A port of a target; a container may give it a name."""

    number: int
    protocol: str = "TCP"
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Pod:
    """A pod of the cluster's network, and the ports that it may be asked at."""

    name: str
    namespace: str
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: Sequence[Port] = ()
    ranges: Sequence[Range] = ()


@dataclass(frozen=True, kw_only=True)
class Outside:
    """What has no policies: the internet, a node and what runs on its network, an address of a cloud."""

    name: str
    ranges: Sequence[Range]
    ports: Sequence[Port] = ()


Endpoint = Pod | Outside


class Network:
    """Pods and other endpoints, and the policies between them."""

    def __init__(self, manifests: Iterable[Manifest], endpoints: Iterable[Endpoint], *, namespace: str) -> None:
        """Take the policies and Namespaces among the manifests; `namespace` is that of manifests which name none."""
        manifests = list(manifests)
        self.endpoints = list(endpoints)
        if len({endpoint.name for endpoint in self.endpoints}) < len(self.endpoints):
            raise ValueError(f"two have one name: {sorted(endpoint.name for endpoint in self.endpoints)}")
        self._namespaces = {
            each["metadata"]["name"]: each["metadata"].get("labels") or {}
            for each in manifests
            if each["kind"] == "Namespace"
        }
        self._policies = [_Policy(each, namespace) for each in manifests if each["kind"] == "NetworkPolicy"]

    def allows(self, source: Endpoint, target: Endpoint, port: Port) -> bool:
        """Return whether the source may open a connection to that port of the target. A pod always reaches itself."""
        if source == target:
            return True
        return self._lets(source, "egress", target, port) and self._lets(target, "ingress", source, port)

    def reach(self) -> dict[tuple[str, str], list[Port]]:
        """Return the open ports of each pair of endpoints, source and target, of which one is a pod."""
        return {
            (source.name, target.name): [port for port in target.ports if self.allows(source, target, port)]
            for source in self.endpoints
            for target in self.endpoints
            if source != target and (isinstance(source, Pod) or isinstance(target, Pod))
        }

    def _lets(self, pod: Endpoint, direction: str, peer: Endpoint, port: Port) -> bool:
        """Return whether the policies of `pod` let it reach the peer, or be reached by it."""
        if not isinstance(pod, Pod):
            return True
        target = peer if direction == "egress" else pod
        policies = [policy for policy in self._policies if policy.governs(pod, direction)]
        return not policies or any(
            _has_port(rule, port, target) and self._has_peer(rule, direction, policy.namespace, peer)
            for policy in policies
            for rule in policy.rules(direction)
        )

    def _has_peer(self, rule: Mapping[str, Any], direction: str, namespace: str, peer: Endpoint) -> bool:
        peers = rule.get("to" if direction == "egress" else "from")
        return not peers or any(self._is_peer(each, namespace, peer) for each in peers)

    def _is_peer(self, said: Mapping[str, Any], namespace: str, peer: Endpoint) -> bool:
        block, pods, namespaces = (said.get(word) for word in ("ipBlock", "podSelector", "namespaceSelector"))
        if (block is None) == (pods is None and namespaces is None):
            raise PolicyError(f"a peer is either an ipBlock or selectors, not {dict(said)}")
        if block is not None:
            return any(_is_in_block(each, block) for each in peer.ranges)
        if not isinstance(peer, Pod):
            return False
        is_in_namespace = (
            peer.namespace == namespace if namespaces is None else matches(namespaces, self._labels_of(peer.namespace))
        )
        return is_in_namespace and matches(pods or {}, peer.labels)

    def _labels_of(self, namespace: str) -> Mapping[str, str]:
        return {**self._namespaces.get(namespace, {}), _NAME_LABEL: namespace}


class _Policy:
    def __init__(self, manifest: Manifest, namespace: str) -> None:
        self.namespace = manifest["metadata"].get("namespace") or namespace
        self._spec = manifest["spec"]
        types = self._spec.get("policyTypes") or ["Ingress", *(["Egress"] if self._spec.get("egress") else [])]
        self._directions = [each.lower() for each in types]

    def governs(self, pod: Pod, direction: str) -> bool:
        """Return whether the pod may in this direction do only what policies such as this one allow."""
        is_selected = pod.namespace == self.namespace and matches(self._spec.get("podSelector") or {}, pod.labels)
        return is_selected and direction in self._directions

    def rules(self, direction: str) -> list[Mapping[str, Any]]:
        return self._spec.get(direction) or []


def _has_port(rule: Mapping[str, Any], port: Port, target: Endpoint) -> bool:
    ports = rule.get("ports")
    return not ports or any(_is_port(each, port, target) for each in ports)


def _is_port(said: Mapping[str, Any], port: Port, target: Endpoint) -> bool:
    if said.get("protocol", "TCP") != port.protocol:
        return False
    match said.get("port"), said.get("endPort"):
        case None, None:
            return True
        case int(first), last:
            return first <= port.number <= (last or first)
        case str(name), None if isinstance(target, Pod):
            named = [each for each in target.ports if each.name == name]
            return any((each.number, each.protocol) == (port.number, port.protocol) for each in named)
        case str(), None:
            return False  # only a container can give a port a name
    raise PolicyError(f"endPort needs a number in port: {dict(said)}")


def _is_in_block(addresses: Range, block: Mapping[str, Any]) -> bool:
    """Return whether one of the addresses is in the block, and in none of its exceptions."""
    cidr = ip_network(block["cidr"])
    if addresses.version != cidr.version or not addresses.overlaps(cidr):
        return False
    both = max(addresses, cidr, key=lambda network: network.prefixlen)  # of two that overlap, one is in the other
    exceptions = [ip_network(each) for each in block.get("except") or []]
    if not all(_is_within(each, cidr) and each != cidr for each in exceptions):
        raise PolicyError(f"an exception is not inside its block: {dict(block)}")
    return not any(_is_within(both, each) for each in collapse_addresses(exceptions))  # type: ignore[type-var]


def _is_within(inner: Range, outer: Range) -> bool:
    return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]


_WITH_TEMPLATE = {"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob"}


def endpoints_of(
    manifests: Iterable[Manifest], *, namespace: str, pods: Sequence[Range] = (), nodes: Sequence[Range] = ()
) -> list[Endpoint]:
    """Return one endpoint for the pods of each workload, by the workload's name.

    Those on the nodes' network are `Outside`, at the addresses of `nodes`: no policy is for them. The others are
    anywhere in the ranges of `pods`.
    """
    found: list[Endpoint] = []
    for manifest in manifests:
        template = _template_of(manifest)
        if template is None:
            continue
        name, spec = manifest["metadata"]["name"], template["spec"]
        ports = tuple(
            Port(port["containerPort"], port.get("protocol", "TCP"), port.get("name", ""))
            for container in [*spec["containers"], *(spec.get("initContainers") or [])]
            for port in container.get("ports") or []
        )
        if spec.get("hostNetwork"):
            found.append(Outside(name=name, ranges=nodes, ports=ports))
        else:
            home = manifest["metadata"].get("namespace") or namespace
            labels = (template.get("metadata") or {}).get("labels") or {}
            found.append(Pod(name=name, namespace=home, labels=labels, ports=ports, ranges=pods))
    return found


def _template_of(manifest: Manifest) -> Manifest | None:
    kind, spec = manifest["kind"], manifest.get("spec")
    if kind == "Pod":
        return manifest
    if kind == "CronJob":
        spec = manifest["spec"]["jobTemplate"]["spec"]
    return spec["template"] if spec and kind in _WITH_TEMPLATE else None
