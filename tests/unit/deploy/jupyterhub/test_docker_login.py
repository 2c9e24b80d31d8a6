"""The login with which the hub's engine pulls images."""

import base64
import json
import os
import stat
from pathlib import Path

import docker.auth
import pytest

from deploy.jupyterhub.config_docker import give_login


@pytest.fixture(autouse=True)
def docker_config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "of-the-user"))


def test_the_engines_client_finds_the_login_and_nobody_else_may_read_it() -> None:
    encoded = base64.b64encode(b"ann:se:cret").decode()
    give_login(json.dumps({"auths": {"registry.example.org:5000": {"auth": encoded}}}))
    login = docker.auth.load_config().resolve_authconfig("registry.example.org:5000")
    assert (login["username"], login["password"]) == ("ann", "se:cret")
    assert stat.S_IMODE(Path(os.environ["DOCKER_CONFIG"]).stat().st_mode) == 0o700


def test_without_a_login_the_clients_own_configuration_stays(tmp_path: Path) -> None:
    give_login("")
    assert os.environ["DOCKER_CONFIG"] == str(tmp_path / "of-the-user")
