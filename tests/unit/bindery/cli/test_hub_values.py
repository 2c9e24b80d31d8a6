"""`bindery hub-values`."""

import pytest
import yaml

from bindery.cli import main
from deploy.jupyterhub import configuration
from deploy.jupyterhub.kube_spawner import BinderKubeSpawner
from services.launcher.settings import LauncherSettings


def test_it_prints_yaml_with_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--namespace", "hubs", "--memory-limit", "4G", "--allowed-origins", "*"]
    assert main(["hub-values", *arguments, "--image-pull-secret", "a", "--image-pull-secret", "b"]) in (0, None)
    out, err = capsys.readouterr()
    values = yaml.safe_load(out)
    assert "http://hub.hubs:8081/hub/api/" in out
    assert values["singleuser"]["memory"]["limit"] == "4G"
    assert values["singleuser"]["image"]["pullSecrets"] == ["a", "b"]
    assert values["hub"]["extraEnv"]["BINDERY_ALLOWED_ORIGINS"] == "*"
    assert err == ""


def test_without_options_the_hub_has_the_defaults_of_the_settings(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    main(["hub-values"])
    out = capsys.readouterr().out
    values = yaml.safe_load(out)
    launcher = {name: field.default for name, field in LauncherSettings.model_fields.items()}
    assert values["cull"]["timeout"] == launcher["idle_timeout_seconds"]
    assert values["cull"]["maxAge"] == launcher["max_age_seconds"]
    assert f"server_start_max_seconds: {launcher['server_start_max_seconds']:.0f}\n" in out
    assert f"hub_concurrent_spawns: {launcher['hub_concurrent_spawns']}\n" in out
    assert values["singleuser"]["memory"] == {
        "guarantee": BinderKubeSpawner.default_mem_guarantee.default_value,
        "limit": BinderKubeSpawner.default_mem_limit.default_value,
    }

    env = values["hub"]["extraEnv"]
    with_values, without = configured(env, monkeypatch), configured({}, monkeypatch)
    assert with_values == without


def configured(env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> object:
    """Return what a hub's configuration makes of the variables."""
    from traitlets.config import Config

    for name in ("ALLOWED_ORIGINS", "CONCURRENT_SPAWN_LIMIT", "SERVER_START_TIMEOUT_SECONDS"):
        monkeypatch.delenv(f"BINDERY_{name}", raising=False)
    monkeypatch.delenv("BINDERY_SERVER_START_MAX_SECONDS", raising=False)
    for name, value in env.items():
        if name.startswith("BINDERY_"):
            monkeypatch.setenv(name, value)
    c = Config()
    c.JupyterHub.tornado_settings = {}
    configuration.configure_containers(c, BinderKubeSpawner)
    c.BinderKubeSpawner.pop("apply_user_options")
    return c


def test_an_option_that_makes_no_sense_is_told_in_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["hub-values", "--memory-limit", "lots"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == ("bindery: --memory-limit is 'lots': give bytes, or a number with K, M, G or T, as in 512M or 2G.\n")
