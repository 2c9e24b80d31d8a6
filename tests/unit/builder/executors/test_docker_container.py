"""The container of a build: who its program runs as, and who owns the files that it is given."""

import io
import tarfile

import pytest
from pydantic import ValidationError

from services.builder.executors.base import Attempt
from services.builder.executors.docker.container import input_files, specification
from services.builder.executors.docker.settings import DockerSettings
from services.builder.executors.repo2docker import Environment
from tests.support.settings import settings_for

ATTEMPT = Attempt(
    build_id="abc-1", image="registry.example.org/x:1", repo_url="https://git.example.org/x", ref="0" * 40, epoch=1
)


def settings(**fields: object) -> DockerSettings:
    return settings_for(DockerSettings, fields)


def owners(settings: DockerSettings) -> set[tuple[int, int]]:
    archive = input_files(epoch=1, config="", environment=Environment(), docker_config="{}", owner=settings.build_owner)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        entries = tar.getmembers()
    assert {"bindery/secrets", "bindery/docker", "bindery/docker/config.json"} <= {entry.name for entry in entries}
    return {(entry.uid, entry.gid) for entry in entries}


@pytest.mark.parametrize(("ours", "user"), [(settings(), "0:0"), (settings(docker_build_user=""), None)])
def test_a_build_runs_as_root_or_as_the_images_own_user(ours: DockerSettings, user: str | None) -> None:
    body = specification(ATTEMPT, ours, Environment())
    assert body.get("User") == user
    assert "WorkingDir" not in body
    assert not {"GroupAdd", "CapDrop"} & body["HostConfig"].keys()
    assert owners(ours) == {(0, 0)}


def test_a_build_as_a_user_of_its_own_has_the_sockets_group_and_no_other_right() -> None:
    ours = settings(docker_build_user="10001:10002", docker_build_group=106)
    body = specification(ATTEMPT, ours, Environment())
    assert (body["User"], body["HostConfig"]["GroupAdd"]) == ("10001:10002", ["106"])
    assert body["HostConfig"]["CapDrop"] == ["ALL"]
    assert body["HostConfig"]["SecurityOpt"] == ["no-new-privileges"]
    assert body["WorkingDir"] == "/tmp"
    assert "HOME=/tmp" in body["Env"]
    assert owners(ours) == {(10001, 10002)}


def test_a_user_of_its_own_needs_no_group_for_an_engine_by_tcp_and_may_have_another_home() -> None:
    ours = settings(docker_build_user="10001:10001", docker_host="tcp://10.0.0.1:2375")
    body = specification(ATTEMPT, ours, Environment({"HOME": "/home/x"}))
    assert "GroupAdd" not in body["HostConfig"]
    assert [variable for variable in body["Env"] if variable.startswith("HOME=")] == ["HOME=/home/x"]


@pytest.mark.parametrize("user", ["bindery", "10001", "10001:bindery", "-1:0"])
def test_a_user_is_two_numbers(user: str) -> None:
    with pytest.raises(ValidationError, match="a user and group are two numbers"):
        settings(docker_build_user=user)
