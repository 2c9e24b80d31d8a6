"""Values that can't work are refused in a sentence that names them and says what to write."""

import json
from pathlib import Path

import pytest

from tests.chart.cases import CHART, NEEDED, Values
from tests.support.helm import Helm, HelmError

GOOD: Values = {"registry": {"bundled": True}}
SERVERS: Values = {"serversUrl": "https://servers.example.org"}
ELSEWHERE: Values = {"registry": {"bundled": False, "imagePrefix": "registry.example.org/binder/"}}
URL = "https://bindery.example.org, a host name of its own without a path"

WRONG: list[tuple[Values, str]] = [
    (
        {"publicUrl": "https://example.org/bindery"},
        f'publicUrl is "https://example.org/bindery": it must be like {URL}.',
    ),
    ({"serversUrl": "bindery.example.org"}, f'serversUrl is "bindery.example.org": it must be like {URL}.'),
    ({"publicUrl": "http://a b"}, f'publicUrl is "http://a b": it must be like {URL}.'),
    (
        {"publicUrl": "https://same.example.org", "serversUrl": "https://same.example.org:8443"},
        "publicUrl and serversUrl have the same host, same.example.org: servers of users would get the cookies of "
        "Bindery's own pages. Give servers another name.",
    ),
    ({"images": {"prefix": ""}}, "images.prefix is not set: build and push Bindery's images"),
    (
        {"images": {"prefix": "https://registry.example.org/"}},
        'images.prefix is "https://registry.example.org/": it must be like registry.example.org/bindery/, without '
        "https:// and with a slash at its end.",
    ),
    (
        {"trustedProxies": ["192.0.2.0/24", "192.0.2.7"]},
        'trustedProxies is "192.0.2.7": it must be like 192.0.2.0/24, or 192.0.2.7/32 for one address.',
    ),
    (
        {"servers": {"memory": {"limit": "2Gi"}}},
        'servers.memory.limit is "2Gi": it must be like 512M or 2G, in JupyterHub\'s units, which are K, M, G and T.',
    ),
    (
        {"fullnameOverride": "Bindery.two"},
        'fullnameOverride is "Bindery.two": it must be like bindery-two, at most 40 lower-case letters, digits and '
        "dashes.",
    ),
    ({"registry": {"bundled": False}}, "there is no registry for built images: set registry.imagePrefix to one"),
    ({"redis": {"bundled": False}}, "redis.bundled is false: set redis.url to the address of your Redis."),
    (
        {"redis": {"bundled": False, "url": "valkey://a"}},
        'redis.url is "valkey://a": it must be like rediss://{user}:{password}@',
    ),
    ({"redis": {"url": "redis://a"}}, "redis.url is set, but redis.bundled is true, too: set redis.bundled to false"),
    ({"hub": {"apiUrl": "http://hub:8081/hub/api/"}}, "hub.apiUrl is set, but hub.bundled is true, too:"),
    ({"registry": {"url": "http://registry:5000"}}, "registry.url is set, but registry.bundled is true, too:"),
    (SERVERS | {"hub": {"bundled": False}}, "hub.bundled is false: set hub.apiUrl to the API of your hub."),
    (
        {"hub": {"bundled": False, "apiUrl": "http://hub:8081/hub/api/"}},
        "hub.bundled is false: set serversUrl to the address of your hub's proxy, at which users reach their servers.",
    ),
    (
        SERVERS | {"hub": {"bundled": False, "apiUrl": "hub:8081"}},
        'hub.apiUrl is "hub:8081": it must be like http://hub.',
    ),
    ({"ingress": {"enabled": True}}, "an Ingress or HTTPRoute needs both host names: set publicUrl and serversUrl."),
    (
        ELSEWHERE | {"engine": {"kind": "address"}},
        "engine.kind is address: set engine.address to that of an engine, as tcp://",
    ),
    (
        ELSEWHERE | {"engine": {"kind": "address", "address": "unix:///run/docker.sock"}},
        'engine.address is "unix:///run/docker.sock": it must be like tcp://engine.example.org:2376.',
    ),
    (
        {"engine": {"kind": "address", "address": "tcp://engine.example.org:2376"}},
        "registry.bundled is true, but an engine elsewhere (engine.kind address) does not reach a port of the node: "
        "set registry.imagePrefix to a registry that both reach, and registry.bundled to false.",
    ),
    (
        {"secrets": {"values": {"start-token": "abc", "operator-token": "def"}}},
        "secrets.values has operator-token, start-token, but secrets.existing names a Secret of yours, which the chart "
        "does not change: put them there, or leave one of both out.",
    ),
    (
        {"gateway": {"autoscaling": {"minReplicas": 20}}},
        "gateway.autoscaling.minReplicas, 20, is more than gateway.autoscaling.maxReplicas, 10.",
    ),
    (
        {"worker": {"autoscaling": {"minReplicas": 4, "maxReplicas": 3}}},
        "worker.autoscaling.minReplicas, 4, is more than worker.autoscaling.maxReplicas, 3.",
    ),
    (
        {"worker": {"autoscaling": {"keda": {"prometheusUrl": "prometheus:9090"}}}},
        'worker.autoscaling.keda.prometheusUrl is "prometheus:9090": it must be like http://prometheus-operated.',
    ),
]


def refusal(helm: Helm, tmp_path: Path, values: Values, *, release: str = "bindery", namespace: str = "bindery") -> str:
    """Return what helm says of values that it does not render."""
    files = []
    for number, some_values in enumerate((NEEDED, GOOD, values)):
        files.append(tmp_path / f"{number}.json")
        files[-1].write_text(json.dumps(some_values))
    with pytest.raises(HelmError) as error:
        helm.template(CHART, values_files=files, release=release, namespace=namespace)
    return str(error.value)


@pytest.mark.parametrize(("values", "sentence"), WRONG, ids=[json.dumps(values) for values, _ in WRONG])
def test_wrong_values_are_refused_in_one_sentence(helm: Helm, tmp_path: Path, values: Values, sentence: str) -> None:
    said = [line for line in refusal(helm, tmp_path, values).splitlines() if line.startswith("- ")]
    assert [line.startswith(f"- {sentence}") for line in said] == [True]


def test_all_that_is_wrong_is_said_at_once(helm: Helm, tmp_path: Path) -> None:
    values = ELSEWHERE | {"publicUrl": "a", "redis": {"bundled": False}, "engine": {"kind": "address"}}
    said = refusal(helm, tmp_path, values)
    assert [line.split()[1] for line in said.splitlines() if line.startswith("- ")] == [
        "publicUrl",
        "redis.bundled",
        "engine.kind",
    ]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"gateway": {"replicas": "two"}}, "at '/gateway/replicas': got string, want integer"),
        ({"imagePullSecrets": "login"}, "at '/imagePullSecrets': got string, want array"),
        (
            {"worker": {"autoscaling": {"by": "cpu"}}},
            "at '/worker/autoscaling/by': value must be one of 'none', 'keda'",
        ),
    ],
)
def test_a_value_of_the_wrong_type_is_named_with_the_type_that_it_needs(
    helm: Helm, tmp_path: Path, values: Values, sentence: str
) -> None:
    assert sentence in refusal(helm, tmp_path, values)


@pytest.mark.parametrize("release", ["bindery.two", "2nd"])
def test_a_releases_name_that_services_can_not_have_is_refused_unless_it_is_replaced(
    helm: Helm, tmp_path: Path, release: str
) -> None:
    said = refusal(helm, tmp_path, {}, release=release)
    assert f"the release's name, {release}" in said
    assert "a letter first: choose another, or set fullnameOverride." in said

    files = sorted(tmp_path.glob("*.json"))
    two = {"fullnameOverride": "two"}
    assert helm.template(CHART, values_files=files, values=two, release=release)


def test_a_releases_name_that_is_too_long_is_refused_by_helm_and_a_long_one_is_cut(helm: Helm, tmp_path: Path) -> None:
    said = refusal(helm, tmp_path, {}, release=54 * "a")
    assert "invalid release name" in said
    assert "must not be longer than 53" in said

    files = sorted(tmp_path.glob("*.json"))
    rendered = helm.template(CHART, values_files=files, release=53 * "a")
    names = [manifest["metadata"]["name"] for manifest in rendered if manifest["kind"] == "Service"]
    assert names
    assert all(len(name) <= 63 for name in names)


def test_a_namespace_whose_name_leaves_no_room_for_two_more_is_refused(helm: Helm, tmp_path: Path) -> None:
    said = refusal(helm, tmp_path, {}, namespace=60 * "a")
    for part in ("builds", "servers"):
        sentence = f"-{part} has more than the 63 characters of a namespace's name: set {part}.namespace.name."
        assert sentence in said
