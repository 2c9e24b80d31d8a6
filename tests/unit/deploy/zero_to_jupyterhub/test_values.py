"""What the values say: to the chart of zero-to-jupyterhub, and at their head to whoever installs it."""

import re
from typing import Any

import pytest
import yaml

from deploy.zero_to_jupyterhub.spawner_files import spawner_files
from services.launcher.settings import LauncherSettings
from tests.support.paths import CHECKOUT
from tests.support.zero_to_jupyterhub import OPTIONS, head_of, values_of

CHART = CHECKOUT / "deploy" / "helm" / "bindery"
SECRET_MAX_BYTES = 2**20
KEY_IN_A_SECRET = re.compile(r"[-._a-zA-Z0-9]+")


def for_bindery(**changes: object) -> Any:
    """Return the values for Bindery's own chart that the head has."""
    return yaml.safe_load(head_of(**changes).partition("Bindery's own chart gets these values:\n")[2])


def test_the_options_are_where_the_chart_reads_them() -> None:
    values = values_of(image_pull_secrets=("registry", "mirror"))
    assert values["cull"] == {"enabled": True, "users": True, "timeout": 300, "every": 60, "maxAge": 7200}
    assert values["singleuser"]["memory"] == {"guarantee": "256M", "limit": "1G"}
    assert values["singleuser"]["image"] == {"pullSecrets": ["registry", "mirror"]}
    assert values["hub"]["extraEnv"] == {
        "PYTHONPATH": "/srv/bindery",
        "BINDERY_ALLOWED_ORIGINS": "https://a.example,https://b.example",
        "BINDERY_CONCURRENT_SPAWN_LIMIT": "50",
        "BINDERY_SERVER_START_TIMEOUT_SECONDS": "60",
        "BINDERY_SERVER_START_MAX_SECONDS": "900",
    }


def test_bytes_of_memory_are_a_number() -> None:
    """JupyterHub refuses a text without a unit."""
    memory = values_of(memory_guarantee="1048576", memory_limit="2097152")["singleuser"]["memory"]
    assert memory == {"guarantee": 1048576, "limit": 2097152}


def test_no_idle_timeout_is_one_that_nobody_reaches() -> None:
    """For the chart 0 is no setting, and its culler's default is ten minutes."""
    assert values_of(idle_timeout_seconds=0)["cull"]["timeout"] > 365 * 86400
    assert for_bindery(idle_timeout_seconds=0)["servers"]["idleTimeoutSeconds"] == 0


def test_servers_keep_nothing_and_reach_no_private_network() -> None:
    singleuser = values_of()["singleuser"]
    assert singleuser["storage"] == {"type": "none"}
    assert singleuser["networkPolicy"] == {
        "enabled": True,
        "egressAllowRules": {"privateIPs": False, "cloudMetadataServer": False},
    }
    assert singleuser["cloudMetadata"] == {"blockWithIptables": True}
    assert singleuser["extraLabels"] == {"hub.jupyter.org/network-access-hub": "false"}


def test_of_all_pods_elsewhere_only_binderys_launcher_reaches_the_hub() -> None:
    policy = values_of()["hub"]["networkPolicy"]
    assert policy["enabled"] is True
    (rule,) = policy["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": 8081}]
    assert rule["from"] == [
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "binder"}},
            "podSelector": {
                "matchLabels": {"app.kubernetes.io/name": "bindery", "app.kubernetes.io/component": "launcher"}
            },
        }
    ]


def test_the_launcher_is_a_service_whose_token_the_chart_makes() -> None:
    hub = values_of()["hub"]
    assert hub["services"] == {"bindery-launcher": {}}
    assert hub["loadRoles"]["bindery-launcher"] == {
        "services": ["bindery-launcher"],
        "scopes": ["admin:users", "servers"],
    }
    assert hub["existingSecret"] is None
    assert hub["config"]["JupyterHub"] == {"authenticator_class": "null"}


def test_every_module_is_mounted_below_the_python_path_with_its_text() -> None:
    files = values_of()["hub"]["extraFiles"]
    assert {file["mountPath"]: file["stringData"].strip() for file in files.values()} == {
        f"/srv/bindery/{path}": text.strip() for path, text in spawner_files().items()
    }
    assert [key for key in files if not KEY_IN_A_SECRET.fullmatch(key)] == []


def test_the_files_leave_room_in_the_charts_secret() -> None:
    """The chart's Secret has each file twice, the second time among all values; base64 makes it a third larger."""
    files = values_of()["hub"]["extraFiles"]
    size = 2 * sum(len(file["stringData"].encode()) for file in files.values())
    assert size * 4 / 3 < SECRET_MAX_BYTES / 4


def test_binderys_chart_is_told_the_hub_and_what_must_fit_it() -> None:
    assert for_bindery() == {
        "serversUrl": "https://servers.example.org/",
        "hub": {
            "bundled": False,
            "apiUrl": "http://hub.hubs:8081/hub/api/",
            "tokenSecret": {"name": "bindery-hub-token", "key": "token"},
        },
        "servers": {"idleTimeoutSeconds": 300, "maxAgeSeconds": 7200, "startTimeoutSeconds": 60},
        "launcher": {"extraConfig": {"server_start_max_seconds": 900, "hub_concurrent_spawns": 40}},
    }


def test_binderys_chart_and_launcher_have_what_they_are_told() -> None:
    told = for_bindery()
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    for part in ("hub", "servers"):
        assert set(told[part]) <= set(defaults[part])
    assert set(told["hub"]["tokenSecret"]) == set(defaults["hub"]["tokenSecret"])
    assert set(told) <= set(defaults)
    assert set(told["launcher"]) <= set(defaults["everyPart"])
    assert set(told["launcher"]["extraConfig"]) <= set(LauncherSettings.model_fields)


def test_the_launcher_of_binderys_chart_has_the_labels_that_the_hub_lets_in() -> None:
    (rule,) = values_of()["hub"]["networkPolicy"]["ingress"]
    labels = rule["from"][0]["podSelector"]["matchLabels"]
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["name"] == labels["app.kubernetes.io/name"]
    launcher = (CHART / "templates" / "launcher.yaml").read_text()
    assert f'"part" "{labels["app.kubernetes.io/component"]}"' in launcher


@pytest.mark.parametrize(("token_secret", "name"), [("", "hub"), ("of-mine", "of-mine")])
def test_in_one_namespace_bindery_reads_the_token_where_it_is(token_secret: str, name: str) -> None:
    changes = {"bindery_namespace": OPTIONS["namespace"], "token_secret": token_secret}
    token = {"name": name, "key": "hub.services.bindery-launcher.apiToken"}
    assert for_bindery(**changes)["hub"]["tokenSecret"] == token
    assert "kubectl" not in head_of(**changes)
    assert values_of(**changes)["hub"]["existingSecret"] == (token_secret or None)


@pytest.mark.parametrize(("token_secret", "name"), [("", "hub"), ("of-mine", "of-mine")])
def test_from_another_namespace_the_token_is_copied_and_in_no_argument(token_secret: str, name: str) -> None:
    head = head_of(token_secret=token_secret)
    assert f"kubectl --namespace hubs get secret {name} " in head
    assert '{{index .data "hub.services.bindery-launcher.apiToken" | base64decode}}' in head
    assert "kubectl --namespace binder create secret generic bindery-hub-token" in head
    assert "--from-file token=/dev/stdin" in head


def test_lines_of_the_head_fit_a_terminal() -> None:
    assert [line for line in head_of().splitlines() if len(line) > 118] == []
