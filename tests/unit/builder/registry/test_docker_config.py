"""Logins are found in config.json as Docker, Podman and Kubernetes write it."""

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from services.builder.executors.build_credentials import CredentialsForBuilds
from services.builder.registry.credentials import CredentialsError, Login
from services.builder.registry.docker_config import DockerConfig
from services.builder.registry.settings import RegistrySettings
from services.builder.settings import BuilderSettings

ANN = base64.b64encode(b"ann:se:cret").decode()


def write_config(folder: Path, **content: Any) -> DockerConfig:
    (folder / "config.json").write_text(json.dumps(content))
    return DockerConfig.of(RegistrySettings(docker_config=str(folder)))


@pytest.mark.parametrize(
    ("key", "registry"),
    [
        ("registry.example.org:5000", "registry.example.org:5000"),
        ("https://registry.example.org:5000", "registry.example.org:5000"),
        ("http://Registry.Example.org:5000/v2/", "registry.example.org:5000"),
        ("gcr.io/v1/", "gcr.io"),
        ("quay.io/team", "quay.io"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("docker.io", "docker.io"),
        ("registry-1.docker.io", "docker.io"),
    ],
)
async def test_a_login_is_found_with_and_without_scheme_and_path(tmp_path: Path, key: str, registry: str) -> None:
    login = await write_config(tmp_path, auths={key: {"auth": ANN}}).login_for(registry, "team/x")
    assert (login.username, login.password) == ("ann", "se:cret")


@pytest.mark.parametrize(
    ("entry", "login"),
    [
        ({"auth": ANN + "\n"}, Login("ann", "se:cret")),
        ({"username": "ann", "password": "p"}, Login("ann", "p")),
        ({"auth": base64.b64encode(b"<token>:").decode(), "identitytoken": "i"}, Login("<token>", identity_token="i")),
        ({"registrytoken": "r"}, Login(registry_token="r")),
    ],
)
async def test_a_login_has_many_forms(tmp_path: Path, entry: dict[str, str], login: Login) -> None:
    assert await write_config(tmp_path, auths={"gcr.io": entry}).login_for("gcr.io", "p/x") == login


async def test_the_login_of_the_longest_path_is_taken(tmp_path: Path) -> None:
    names = {"quay.io": "all", "quay.io/team": "team", "quay.io/team/a": "a"}
    config = write_config(tmp_path, auths={key: {"username": name} for key, name in names.items()})
    paths = ["team/a/x", "team/b", "teamwork/x", "other/x"]
    assert [(await config.login_for("quay.io", path)).username for path in paths] == ["a", "team", "all", "all"]


async def test_another_registrys_login_is_not_ours(tmp_path: Path) -> None:
    config = write_config(tmp_path, auths={"example.org": {"auth": ANN}, "https://gcr.io:444": {"auth": ANN}})
    assert (await config.login_for("registry.example.org", "x")).is_anonymous
    assert (await config.login_for("gcr.io", "x")).is_anonymous


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ({"credHelpers": {"gcr.io": "gcloud"}, "credsStore": "desktop"}, "docker-credential-gcloud"),
        ({"credsStore": "desktop", "auths": {"gcr.io": {}}}, "docker-credential-desktop"),
    ],
)
async def test_a_credential_helper_is_not_run_but_named(tmp_path: Path, content: dict[str, Any], name: str) -> None:
    login = await write_config(tmp_path, **content).login_for("gcr.io", "p/x")
    assert login.is_anonymous
    assert login.note == f"{tmp_path}/config.json leaves its login to the credential helper {name}, which is not run"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "can't be read"),
        ("[]", "is not a JSON object"),
        (
            '{"auths": {"gcr.io": {"auth": "secret!"}}}',
            r"`auth` in auths\['gcr.io'\] of the builder's config.json is not base64",
        ),
    ],
)
async def test_a_broken_file_is_not_a_missing_login_and_its_content_stays_secret(
    tmp_path: Path, content: str, why: str
) -> None:
    (tmp_path / "config.json").write_text(content)
    config = DockerConfig.of(RegistrySettings(docker_config=str(tmp_path / "config.json")))
    with pytest.raises(CredentialsError, match=why) as raised:
        await config.login_for("gcr.io", "p/x")
    assert "secret" not in str(raised.value)


async def test_the_file_is_read_again_when_it_changes_as_a_mounted_secret_does(tmp_path: Path) -> None:
    for version, user in (("..1", "ann"), ("..2", "bob")):
        (tmp_path / version).mkdir()
        (tmp_path / version / "config.json").write_text(json.dumps({"auths": {"gcr.io": {"username": user}}}))
    mounted = tmp_path / "mounted"
    mounted.symlink_to(tmp_path / "..1")
    config = DockerConfig.of(RegistrySettings(docker_config=str(mounted)))
    assert (await config.login_for("gcr.io", "x")).username == "ann"
    (tmp_path / "next").symlink_to(tmp_path / "..2")
    (tmp_path / "next").replace(mounted)
    assert (await config.login_for("gcr.io", "x")).username == "bob"
    (tmp_path / "..2" / "config.json").unlink()
    assert (await config.login_for("gcr.io", "x")).is_anonymous


async def test_docker_config_of_the_environment_is_used_unless_the_setting_names_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    write_config(tmp_path, auths={"gcr.io": {"username": "ann"}})
    assert (await DockerConfig.of(RegistrySettings()).login_for("gcr.io", "x")).username == "ann"
    missing = DockerConfig.of(RegistrySettings(docker_config=str(tmp_path / "push.json")))
    login = await missing.login_for("gcr.io", "x")
    assert login == Login(note=f"{tmp_path}/push.json can't be read: No such file or directory")
    monkeypatch.delenv("DOCKER_CONFIG")
    monkeypatch.setenv("HOME", os.devnull)
    assert (await DockerConfig.of(RegistrySettings()).login_for("gcr.io", "x")).is_anonymous


async def test_the_content_in_the_settings_replaces_every_file_and_builds_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    write_config(tmp_path, auths={"gcr.io": {"username": "bob"}})
    content = SecretStr(json.dumps({"auths": {"gcr.io": {"auth": ANN}}}))
    login = await DockerConfig.of(RegistrySettings(docker_auth_config=content)).login_for("gcr.io", "x")
    assert (login.username, login.password) == ("ann", "se:cret")
    builds = CredentialsForBuilds(BuilderSettings(docker_auth_config=content))
    assert (await builds.for_image("docker.io/org/name:1")).auths == {"gcr.io": {"auth": ANN}}


async def test_content_that_is_not_json_is_refused_and_stays_secret() -> None:
    config = DockerConfig.of(RegistrySettings(docker_auth_config=SecretStr("secret {")))
    with pytest.raises(CredentialsError, match="the builder's BINDERY_DOCKER_AUTH_CONFIG can't be read") as raised:
        await config.login_for("gcr.io", "p/x")
    assert "secret" not in str(raised.value)


def test_a_login_is_shown_without_its_secrets() -> None:
    assert "s3" not in repr(Login("ann", "s3", identity_token="s3", registry_token="s3"))
