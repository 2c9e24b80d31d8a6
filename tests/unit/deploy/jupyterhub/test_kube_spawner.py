"""Servers as pods: the content of a launch's pod, and that its Secret exists after any number of attempts."""

import asyncio
import contextlib
import gc
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from kubespawner import KubeSpawner
from tornado.web import HTTPError

from deploy.jupyterhub import kube_spawner
from deploy.jupyterhub.kube_spawner import BinderKubeSpawner
from tests.support.pods_api import PodsAndSecrets
from tests.support.spawners import message_of, spawner_of

NAME = "servers/jupyter-ann"
TOKENS = {"JUPYTER_TOKEN": "the-token"}
Make = Callable[..., Any]


@pytest.fixture
async def server_port() -> AsyncIterator[int]:
    """Where something answers, as a server that has come up does."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture
def api() -> PodsAndSecrets:
    return PodsAndSecrets()


@pytest.fixture
def make(api: PodsAndSecrets, server_port: int, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Make a spawner that talks to `api`, whose calls may take a second."""
    monkeypatch.setattr("kubespawner.spawner.load_config", lambda **_: None)
    monkeypatch.setattr("kubespawner.spawner.shared_client", lambda _: api)

    def spawner(**settings: object) -> Any:
        defaults = {"namespace": "servers", "port": server_port, "events_enabled": False, "k8s_api_request_timeout": 1}
        instance = spawner_of(BinderKubeSpawner, **(defaults | settings))
        type(instance).reflectors = {instance._get_reflector_key("pods"): api.reflector}
        return instance

    return spawner


@pytest.mark.slow
async def test_the_secret_exists_after_a_late_pod_was_created_again(make: Make, api: PodsAndSecrets) -> None:
    api.late = {"create pod": 1}
    await make().start()
    assert list(api.pods) == [NAME]
    assert api.secrets == {NAME: TOKENS}
    assert api.calls.count("create pod") == 3  # the one that was late, the one that found it, the one that counts


async def test_the_secret_is_there_after_a_leftover_pod_of_that_name_was_removed(
    make: Make, api: PodsAndSecrets
) -> None:
    api.pods[NAME] = {"metadata": {"name": "jupyter-ann", "annotations": {}}, "status": {"phase": "Running"}}
    api.secrets[NAME] = {"JUPYTER_TOKEN": "of an earlier start"}
    spawner = make()
    await spawner.start()
    assert api.pods[NAME]["metadata"]["annotations"]["bindery/start"] == spawner._start_id
    assert api.secrets == {NAME: TOKENS}


@pytest.mark.parametrize("how", ["hangs", "late"])
@pytest.mark.slow
async def test_a_secret_whose_making_gets_no_answer_is_tried_again(make: Make, api: PodsAndSecrets, how: str) -> None:
    setattr(api, how, {"create secret": 1})
    await make().start()
    assert (list(api.pods), api.secrets) == ([NAME], {NAME: TOKENS})


@pytest.mark.parametrize("kind", ["create secret", "create pod"])
@pytest.mark.slow
async def test_an_api_that_never_answers_is_reported(make: Make, api: PodsAndSecrets, kind: str) -> None:
    api.hangs = {kind: 1000}
    with pytest.raises(HTTPError) as raised:
        await make(k8s_api_request_retry_timeout=1).start()
    message = message_of(raised.value)
    assert message == "Failed to start the pod: Kubernetes does not answer (Could not create pod servers/jupyter-ann)."


async def test_a_start_that_ignores_its_cancel_is_left_and_the_end_of_the_pod_is_told(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_end = asyncio.Event()
    asyncio.get_running_loop().call_later(5, may_end.set)

    async def start(_: KubeSpawner) -> str:
        while not may_end.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await may_end.wait()
        return "http://too.late"

    async def end(_: BinderKubeSpawner) -> str:
        return "The pod was ended."

    monkeypatch.setattr(KubeSpawner, "start", start)
    monkeypatch.setattr(BinderKubeSpawner, "_wait_for_end", end)
    monkeypatch.setattr(kube_spawner, "_CANCEL_SECONDS", 0.1)
    with pytest.raises(HTTPError, match="The pod was ended"):
        await make().start()
    assert not may_end.is_set()
    may_end.set()


async def test_the_error_of_a_start_that_fails_when_it_is_cancelled_is_logged(
    make: Make, monkeypatch: pytest.MonkeyPatch, unread_errors: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    async def start(_: KubeSpawner) -> str:
        try:
            await asyncio.Event().wait()
        finally:
            raise OSError("no connection")

    async def end(_: BinderKubeSpawner) -> str:
        await asyncio.sleep(0)
        return "The pod was ended."

    monkeypatch.setattr(KubeSpawner, "start", start)
    monkeypatch.setattr(BinderKubeSpawner, "_wait_for_end", end)
    spawner = make()
    spawner.log = logging.getLogger("the hub")
    with pytest.raises(HTTPError, match="The pod was ended"):
        await spawner.start()
    assert "The start of pod jupyter-ann was cancelled, and failed: OSError('no connection')" in caplog.messages
    gc.collect()
    assert unread_errors == []


@pytest.mark.slow
async def test_ending_a_server_removes_its_secret_though_one_call_gets_no_answer(
    make: Make, api: PodsAndSecrets
) -> None:
    spawner = make()
    await spawner.start()
    api.hangs = {"delete secret": 1}
    await spawner.stop()
    assert (api.pods, api.secrets) == ({}, {})


async def test_a_pod_without_secrets_has_its_tokens_in_the_pod(make: Make, api: PodsAndSecrets) -> None:
    spawner = make(secret_variables=[])
    [container] = (await spawner.get_pod_manifest()).spec.containers
    assert TOKENS.items() <= {variable.name: variable.value for variable in container.env}.items()
    await spawner.start()
    assert "create secret" not in api.calls


async def test_a_pod_has_what_its_launch_says_and_no_token(make: Make) -> None:
    wishes = {"memory_guarantee": 1 << 28, "memory_limit": 1 << 29, "cpu_guarantee": 0.5, "cpu_limit": 1.5, "gpus": 2}
    pod = await make(resources=wishes, cors_allow_origin="*").get_pod_manifest()
    [container] = pod.spec.containers
    assert container.resources.limits == {"cpu": 1.5, "memory": 1 << 29, "nvidia.com/gpu": 2}
    assert container.resources.requests == {"cpu": 0.5, "memory": 1 << 28, "nvidia.com/gpu": 2}
    environment = {variable.name: variable.value for variable in container.env}
    assert environment["BINDER_REPO_URL"] == "https://example.org/{team}/r"
    assert environment["JUPYTERHUB_SERVICE_PREFIX"] == "/user/ann/"
    assert "--ServerApp.allow_origin=*" in container.args
    assert [source.secret_ref.name for source in container.env_from] == ["jupyter-ann"]
    assert "the-token" not in pod.to_str()
    assert "of-the-hub" not in pod.to_str()
    assert (pod.spec.restart_policy, pod.spec.enable_service_links) == ("Never", False)
    assert pod.spec.automount_service_account_token is False
    assert pod.metadata.labels["bindery/launch"] == "0123456789abcdef"
    assert pod.metadata.annotations["bindery/ref"] == "abc"


async def test_gpus_are_called_what_the_cluster_calls_them_and_what_is_configured_stays(make: Make) -> None:
    options = {"gpu_resource": "amd.com/gpu", "extra_resource_limits": {"example.org/dongle": "1"}}
    pod = await make(resources={"gpus": 1}, **options).get_pod_manifest()
    limits = pod.spec.containers[0].resources.limits
    assert limits == {"amd.com/gpu": 1, "example.org/dongle": "1", "memory": 2 << 30}


async def test_settings_of_kubespawner_change_the_pod_as_ever(make: Make) -> None:
    options = {"restartPolicy": "OnFailure", "enableServiceLinks": True}
    pod = await make(extra_pod_config=options, automount_service_account_token=True).get_pod_manifest()
    assert (pod.spec.restart_policy, pod.spec.enable_service_links) == ("OnFailure", True)
    assert pod.spec.automount_service_account_token is True


@pytest.mark.parametrize(
    ("options", "wishes", "limit", "guarantee"),
    [
        ({}, {}, 2 << 30, 512 << 20),
        ({"default_mem_limit": "256M"}, {}, 256 << 20, 256 << 20),
        ({"default_mem_limit": 0}, {}, None, None),
        ({"mem_limit": "1G"}, {}, 1 << 30, None),
        ({"mem_guarantee": "1G"}, {}, 2 << 30, 1 << 30),
        ({"mem_guarantee": "3G"}, {}, 3 << 30, 3 << 30),
        ({}, {"memory_guarantee": 8 << 30}, 8 << 30, 8 << 30),
        ({}, {"memory_limit": 128 << 20}, 128 << 20, None),
    ],
)
async def test_a_pod_has_a_limit_of_memory_whoever_says_it(
    make: Make, options: dict[str, object], wishes: dict[str, int], limit: int | None, guarantee: int | None
) -> None:
    resources = (await make(resources=wishes, **options).get_pod_manifest()).spec.containers[0].resources
    assert (resources.limits or {}).get("memory") == limit
    assert (resources.requests or {}).get("memory") == guarantee


async def test_a_pod_has_no_capabilities_unless_the_operator_grants_them(make: Make) -> None:
    async def context(**options: object) -> Any:
        return (await make(**options).get_pod_manifest()).spec.containers[0].security_context

    none = {"capabilities": {"drop": ["ALL"]}}
    assert await context() == {"allowPrivilegeEscalation": False} | none
    seccomp = {"seccompProfile": {"type": "RuntimeDefault"}}
    assert await context(container_security_context=seccomp) == {"allowPrivilegeEscalation": False} | seccomp | none
    options = {"capabilities": {"drop": ["NET_RAW"]}}
    assert (await context(container_security_context=options))["capabilities"] == {"drop": ["NET_RAW"]}
    assert "capabilities" not in await context(dropped_capabilities=[])
    assert "capabilities" not in await context(privileged=True)


async def test_what_a_launch_says_reaches_a_pod_with_its_dollars(make: Make) -> None:
    options = {"environment": {"WHERE": "$(BINDER_REPO_URL)"}, "secret_variables": ["JUPYTER_TOKEN"]}
    spawner = make(**options)
    spawner.user_options["repo_url"] = "https://example.org/$(JUPYTER_TOKEN)/$$(A)/$5"
    [container] = (await spawner.get_pod_manifest()).spec.containers
    environment = {variable.name: variable.value for variable in container.env}
    assert environment["BINDER_REPO_URL"] == "https://example.org/$$(JUPYTER_TOKEN)/$$$$(A)/$$5"
    assert environment["WHERE"] == "$(BINDER_REPO_URL)"  # the operator's own
    assert not [argument for argument in container.args if "$(" in argument or "$$" in argument]
