"""Secrets of the hub, which may come from files that end with a newline."""

import os

import pytest

from deploy.jupyterhub.configuration import strip_secrets


@pytest.mark.parametrize(
    "name",
    ["BINDERY_HUB_API_TOKEN", "BINDERY_CULLER_API_TOKEN", "BINDERY_PROXY_API_PASSWORD", "JUPYTERHUB_CRYPT_KEY"],
)
def test_white_space_around_a_secret_is_no_part_of_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, " a secret\n")
    strip_secrets()
    assert os.environ[name] == "a secret"
    monkeypatch.delenv(name)
    strip_secrets()
    assert name not in os.environ
