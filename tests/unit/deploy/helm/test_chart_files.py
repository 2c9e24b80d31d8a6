"""What stands in the chart and elsewhere too, and must be the same."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.redis.users import USERS, users_file
from docs.generate.chart_values import VALUES, UndocumentedValueError, documented_values
from services.common.version import VERSION
from tests.support.helm_release import CHART
from tests.support.paths import CHECKOUT
from tools.release.version import chart_version

PASSWORDS = {user: f"password-of-{user}" for user in USERS}
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())


def test_the_chart_has_the_version_of_the_services() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (chart_version(VERSION), VERSION)


def test_redis_starts_with_the_users_that_our_command_writes(tmp_path: Path) -> None:
    for name in ("valkey-server", "valkey-cli"):
        program = tmp_path / name
        program.write_text('#!/bin/sh\necho "$@"\n')
        program.chmod(0o755)
    script = (CHART / "files" / "start-redis.sh").read_text()
    script = script.replace("/tmp/", f"{tmp_path}/").replace("/etc/bindery", str(CHART / "files"))
    environ = {
        "PATH": f"{tmp_path}:/usr/bin:/bin",
        "INSTALLATION_ID": "0123456789ab",
        "MAXMEMORY": "512mb",
        **{f"{user.upper()}_PASSWORD": password for user, password in PASSWORDS.items()},
    }
    started = subprocess.run(["sh", "-c", script], env=environ, capture_output=True, text=True, check=True).stdout
    assert started == f"{CHART}/files/redis.conf --aclfile {tmp_path}/users.acl --maxmemory 512mb\n"
    assert (tmp_path / "users.acl").read_text() == users_file("bindery:0123456789ab", PASSWORDS)


def test_workers_are_scaled_by_metrics_that_there_are() -> None:
    asked_for = set(re.findall(r"bindery_\w+", (CHART / "templates" / "worker.yaml").read_text()))
    told = set(re.findall(r"^\| `(bindery_\w+)`", (CHECKOUT / "docs" / "metrics.md").read_text(), re.MULTILINE))
    assert asked_for == {"bindery_builds_waiting", "bindery_builds_running"}
    assert asked_for <= told


def test_each_value_of_the_chart_is_in_its_schema_and_each_of_the_schema_has_a_default() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    declared = set(_leaves(SCHEMA))
    every_part = set(SCHEMA["$defs"]["everyPart"]["properties"])
    missing = {path for path in declared - set(_paths(values)) if path.rpartition(".")[2] not in every_part}
    assert missing == {"global"}
    assert set(_paths(values)) <= declared


def test_each_value_is_explained_in_a_sentence() -> None:
    for value in documented_values(VALUES.read_text()):
        assert re.match(r"[A-Z0-9`]", value.meaning), value
        assert value.meaning.endswith((".", "`.")), value


def test_a_value_without_an_explanation_is_named() -> None:
    with pytest.raises(UndocumentedValueError, match=r"^a\.b has no comment"):
        list(documented_values("a:\n  # -- Known.\n  c: 1\n  b: 2\n"))


def _leaves(schema: dict[str, Any], path: str = "") -> list[str]:
    """Return the paths of all values that a schema knows; objects of any content count as one."""
    reference = schema.get("$ref", "")
    if reference in {"#/$defs/service", "#/$defs/resources"}:
        return [path]
    if reference:
        target: Any = SCHEMA
        for step in reference.removeprefix("#/").split("/"):
            target = target[step]
        return _leaves(target, path)
    properties = schema.get("properties")
    if not properties or path == "secrets.values":
        return [path]
    return [leaf for name, inner in properties.items() for leaf in _leaves(inner, f"{path}.{name}".lstrip("."))]


def _paths(values: dict[str, Any], path: str = "") -> list[str]:
    declared = set(_leaves(SCHEMA))
    paths = []
    for name, value in values.items():
        inner = f"{path}.{name}".lstrip(".")
        paths += [inner] if inner in declared or not isinstance(value, dict) else _paths(value, inner)
    return paths
