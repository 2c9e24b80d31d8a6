"""A real JupyterHub with the values, and with the files that they bring, where there is no checkout."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import CHECKOUT
from tests.support.real_hub import HUB_PYTHON
from tests.support.zero_to_jupyterhub import mount, values_of

CHART_CONFIG = CHECKOUT / "tests" / "support" / "zero_to_jupyterhub_config.py"
LOAD = """
import asyncio, json, sys
import kubespawner.spawner
from jupyterhub import orm
from jupyterhub.app import JupyterHub
from jupyterhub.handlers import BaseHandler

hub = JupyterHub()
asyncio.run(hub.initialize(["--config", sys.argv[1]]))
kubespawner.spawner.load_config = kubespawner.spawner.shared_client = lambda *_, **__: None  # there is no cluster
spawner = hub.spawner_class(config=hub.config, _mock=True)
spawner.user_options = {"image": "registry.example/r@sha256:0", "token": "of-the-launch"}
spawner.apply_user_options(spawner, spawner.user_options)
token = orm.APIToken.find(hub.db, "made-by-the-chart")
print(json.dumps({
    "module": sys.modules[hub.spawner_class.__module__].__file__,
    "authenticator": type(hub.authenticator).__name__,
    "service": token.service.name,
    "roles": sorted(role.name for role in token.service.roles),
    "scopes": sorted(scope for role in token.service.roles for scope in role.scopes),
    "hub": [hub.concurrent_spawn_limit, hub.active_server_limit, hub.tornado_settings["slow_spawn_timeout"]],
    "labels": spawner.extra_labels,
    "memory": [spawner.mem_guarantee, spawner.mem_limit],
    "timeouts": [spawner.answer_timeout_seconds, spawner.start_timeout],
    "spawner": [spawner.namespace, spawner.image, spawner.consecutive_failure_limit],
    "origins": spawner.cors_allow_origin,
    "pull_secrets": spawner.image_pull_secrets,
    "prepare": BaseHandler.prepare.__module__,
}))
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a hub says of itself that has loaded its configuration, with its database, services and roles."""
    root = tmp_path_factory.mktemp("hub")
    values = values_of(image_pull_secrets=("registry",))
    mount(values, root)
    (root / "values.json").write_text(json.dumps(values))
    env = {name: value for name, value in os.environ.items() if not name.startswith(("BINDERY_", "PYTHON"))}
    env |= values["hub"]["extraEnv"] | {"PYTHONPATH": str(root / "srv" / "bindery")}
    command = [str(HUB_PYTHON), "-c", LOAD, str(CHART_CONFIG)]
    result = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    told: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    assert Path(told["module"]) == root / "srv" / "bindery" / "deploy" / "jupyterhub" / "kube_spawner.py"
    return told


def test_the_hub_knows_the_launcher_by_the_charts_token_with_its_two_scopes(hub: dict[str, Any]) -> None:
    assert hub["authenticator"] == "NullAuthenticator"
    assert hub["service"] == "bindery-launcher"
    assert hub["roles"] == ["bindery-launcher"]
    assert hub["scopes"] == ["admin:users", "servers"]


def test_the_hub_starts_our_servers_with_the_options(hub: dict[str, Any]) -> None:
    assert hub["spawner"] == ["hubs", "registry.example/r@sha256:0", 0]
    assert hub["hub"] == [50, 0, 0.3]
    assert hub["memory"] == [256 * 2**20, 2**30]
    assert hub["timeouts"] == [60, 900 + 60 + 20]
    assert hub["origins"] == "https://a.example,https://b.example"
    assert hub["pull_secrets"] == ["registry"]


def test_servers_have_no_label_that_opens_the_hub(hub: dict[str, Any]) -> None:
    assert hub["labels"] == {"hub.jupyter.org/network-access-hub": "false"}


def test_the_hub_answers_503_while_its_database_is_away(hub: dict[str, Any]) -> None:
    assert hub["prepare"] == "deploy.jupyterhub.database_away"
