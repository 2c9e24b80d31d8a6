"""The builder's own login reaches the push of a Job: by the Secret that the Job owns, and by nothing else."""

import base64
import json
import re
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from services.builder.executors.base import Attempt, ExecutorUnavailableError
from services.builder.executors.kubernetes.executor import KubernetesExecutor
from services.builder.executors.kubernetes.settings import KubernetesSettings
from services.builder.registry import credential_sources
from services.builder.registry.credentials import CredentialsError, Login
from services.builder.registry.settings import RegistrySettings
from tests.support.kubernetes_api import KubernetesApi, serving
from tests.support.settings import settings_for

ATTEMPT = Attempt(
    build_id=f"{'a' * 24}-1",
    image="registry.example.org/team/image:ref",
    repo_url="https://example.org/repo",
    ref="ref",
    epoch=1,
)
AUTH = base64.b64encode(b"pusher:s3cret").decode()
AUTHS = {"registry.example.org": {"auth": AUTH}}


@dataclass
class Cloud:
    """A token exchange, as an entry point of the group `bindery.registries` gives it."""

    settings: RegistrySettings
    name = "cloud"
    is_away = False

    async def login_for(self, registry: str, repository: str) -> Login:
        if self.is_away:
            raise CredentialsError("the cloud gives no token")
        return Login("AWS", f"token for {registry}/{repository}")

    async def aclose(self) -> None:
        """Nothing is open."""

    @classmethod
    def load(cls) -> "type[Cloud]":
        return cls


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> type[Cloud]:
    monkeypatch.setattr(
        credential_sources, "entry_points", lambda group: [Cloud] if group == "bindery.registries" else []
    )
    monkeypatch.setattr(Cloud, "is_away", False)
    return Cloud


@dataclass
class JobAndSecret:
    """What the API server was given."""

    job: dict[str, Any]
    secret: dict[str, Any]

    @property
    def container(self) -> dict[str, Any]:
        [container] = self.job["spec"]["template"]["spec"]["containers"]
        assert isinstance(container, dict)
        return container

    @property
    def mounts(self) -> dict[str, dict[str, Any]]:
        return {mount["mountPath"]: mount for mount in self.container["volumeMounts"]}

    @property
    def auths(self) -> dict[str, dict[str, str]]:
        """The logins of the `config.json` in the Secret."""
        auths: dict[str, dict[str, str]] = json.loads(self.secret["stringData"]["config.json"])["auths"]
        return auths


async def create_job(
    folder: Path, *, api: KubernetesApi | None = None, attempt: Attempt = ATTEMPT, **settings: object
) -> JobAndSecret:
    """Have a Job made with these settings."""
    api = api or KubernetesApi()
    async with serving(api.answer, folder) as config:
        executor = KubernetesExecutor(settings_for(KubernetesSettings, {"kubernetes_config": str(config)} | settings))
        try:
            await executor.ensure(attempt)
        finally:
            await executor.aclose()
    [job] = api.objects["jobs"].values()
    [secret] = api.objects["secrets"].values()
    assert secret["metadata"]["ownerReferences"][0]["uid"] == job["metadata"]["uid"]
    return JobAndSecret(job, secret)


def docker_config(folder: Path, auths: dict[str, dict[str, str]]) -> str:
    path = folder / "config.json"
    path.write_text(json.dumps({"auths": auths}))
    return str(path)


async def test_a_login_of_the_builders_docker_config_is_mounted_from_the_secret_where_dockers_client_looks(
    tmp_path: Path,
) -> None:
    objects = await create_job(tmp_path, docker_config=docker_config(tmp_path, AUTHS), kubernetes_home="/home/builder/")
    assert objects.auths == AUTHS
    mount = objects.mounts["/home/builder/.docker/config.json"]
    assert mount == {
        "name": "build", "mountPath": "/home/builder/.docker/config.json", "subPath": "config.json", "readOnly": True,
    }  # fmt: skip
    assert AUTH not in json.dumps(objects.job)
    assert "s3cret" not in json.dumps(objects.job)


async def test_a_token_exchange_that_is_plugged_in_reaches_the_push(tmp_path: Path, cloud: type[Cloud]) -> None:
    objects = await create_job(tmp_path, registry_credentials="cloud")
    token = "token for registry.example.org/team/image"
    assert objects.auths == {"registry.example.org": {"auth": base64.b64encode(f"AWS:{token}".encode()).decode()}}
    assert "/root/.docker/config.json" in objects.mounts
    assert token not in json.dumps(objects.job)
    assert objects.auths["registry.example.org"]["auth"] not in json.dumps(objects.job)


async def test_no_job_is_made_without_the_login_that_it_needs(tmp_path: Path, cloud: type[Cloud]) -> None:
    cloud.is_away = True
    api = KubernetesApi()
    with pytest.raises(ExecutorUnavailableError, match="the cloud gives no token"):
        await create_job(tmp_path, api=api, registry_credentials="cloud")
    assert api.job_uids == []


async def test_the_operator_s_push_secret_wins_and_then_nothing_of_the_builder_s_goes_into_a_job(
    tmp_path: Path,
) -> None:
    config = docker_config(tmp_path, AUTHS)
    objects = await create_job(
        tmp_path, docker_config=config, kubernetes_push_secret="push", kubernetes_engine_credentials=True
    )
    assert objects.mounts["/root/.docker/config.json"]["name"] == "push"
    assert set(objects.secret["stringData"]) == {"repo2docker_config.py"}
    assert "registry_credentials" not in objects.secret["stringData"]["repo2docker_config.py"]


async def test_without_any_login_the_builder_image_s_own_configuration_is_left_alone(tmp_path: Path) -> None:
    objects = await create_job(tmp_path, docker_config=docker_config(tmp_path, {}))
    assert set(objects.mounts) == {"/etc/bindery-build/repo2docker_config.py", "/var/run/docker.sock"}
    assert set(objects.secret["stringData"]) == {"repo2docker_config.py"}


async def test_repo2docker_s_own_login_stands_in_its_configuration_file_where_that_is_asked_for(tmp_path: Path) -> None:
    config = docker_config(tmp_path, AUTHS)
    objects = await create_job(tmp_path, docker_config=config, kubernetes_engine_credentials=True)
    configuration: Any = types.SimpleNamespace(ContainerEngine=types.SimpleNamespace())
    [line] = [
        line for line in objects.secret["stringData"]["repo2docker_config.py"].splitlines() if "ContainerE" in line
    ]
    exec(line, {"c": configuration})  # noqa: S102 - as repo2docker reads it
    assert configuration.ContainerEngine.registry_credentials == {
        "registry": "registry.example.org", "username": "pusher", "password": "s3cret",
    }  # fmt: skip
    assert "s3cret" not in json.dumps(objects.job)
    assert "valueFrom" not in json.dumps(objects.container["env"]), "of an environment more is told than of a file"
    without = await create_job(tmp_path, docker_config=config)
    assert "registry_credentials" not in json.dumps(without.job) + json.dumps(without.secret)


async def test_who_adopts_a_job_without_its_secret_makes_one_that_fits_it(tmp_path: Path) -> None:
    """Its worker died between the two, and the login has gone since: the Job's mount is there all the same."""
    api = KubernetesApi()
    config = docker_config(tmp_path, AUTHS)
    await create_job(tmp_path, api=api, docker_config=config)
    api.objects["secrets"].clear()
    docker_config(tmp_path, {})
    assert (await create_job(tmp_path, api=api, docker_config=config)).auths == {}
    api.objects["secrets"].clear()
    docker_config(tmp_path, AUTHS)
    assert (await create_job(tmp_path, api=api, docker_config=config)).auths == AUTHS


async def test_a_job_that_is_there_is_adopted_without_the_login_that_it_was_made_with(
    tmp_path: Path, cloud: type[Cloud]
) -> None:
    api = KubernetesApi()
    await create_job(tmp_path, api=api, registry_credentials="cloud")
    before = list(api.job_uids)
    cloud.is_away = True
    await create_job(tmp_path, api=api, registry_credentials="cloud")
    assert api.job_uids == before


EXPANDED = re.compile(r"\$(?:\$|\(([^)]*)\))")


def expanded(text: str, variables: dict[str, str]) -> str:
    """What the kubelet hands over. Source: Kubernetes' third_party/forked/golang/expansion."""
    return EXPANDED.sub(lambda match: "$" if match[1] is None else variables.get(match[1], match[0]), text)


async def test_what_an_author_chose_reaches_repo2docker_as_it_is_whatever_variables_it_names(tmp_path: Path) -> None:
    url = "https://$(GIT_CREDENTIAL_ENV).example.org/$(GIT_CREDENTIAL_ENV)/$$(PATH)$(/x$"
    attempt = Attempt(
        build_id=f"{'a' * 24}-1", image="registry.example.org/team/image:ref", repo_url=url,
        ref="$(GIT_CREDENTIAL_ENV)", epoch=1, labels=(("source", url),),
    )  # fmt: skip
    objects = await create_job(
        tmp_path,
        attempt=attempt,
        git_credentials=json.dumps({"$(git_credential_env).example.org": "username=bot\\npassword=hunter2"}),
        repo2docker_appendix="RUN echo $$ $(GIT_CREDENTIAL_ENV)",
        repo2docker_extra_args="--env FROM=$(GIT_TERMINAL_PROMPT)",
        repo2docker_extra_envs={"MINE": "$(GIT_TERMINAL_PROMPT)"},
    )
    variables = {"GIT_CREDENTIAL_ENV": "username=bot\npassword=hunter2", "PATH": "/bin", "GIT_TERMINAL_PROMPT": "0"}
    arguments = [expanded(argument, variables) for argument in objects.container["args"]]
    assert arguments[-2:] == ["--", url]
    assert "--ref=$(GIT_CREDENTIAL_ENV)" in arguments
    assert f"--label=source={url}" in arguments
    assert "--appendix=RUN echo $$ $(GIT_CREDENTIAL_ENV)" in arguments, "it is the same with every executor"
    assert arguments[arguments.index("--env") + 1] == "FROM=0", "an operator's own arguments may name variables"
    environment = {
        variable["name"]: expanded(variable.get("value", ""), variables) for variable in objects.container["env"]
    }
    assert environment["GIT_CONFIG_KEY_1"] == "credential.https://$(GIT_CREDENTIAL_ENV).example.org.helper"
    assert environment["GIT_CONFIG_VALUE_1"].endswith('"$GIT_CREDENTIAL_ENV"; }; f')
    assert environment["MINE"] == "0"
    assert "hunter2" not in json.dumps(arguments) + json.dumps(environment)
