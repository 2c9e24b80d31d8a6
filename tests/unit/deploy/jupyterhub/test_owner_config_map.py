"""A server's pod and Secret belong to a ConfigMap that the operator names; its uid is remembered for all servers."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes_asyncio.client import ApiException, V1ConfigMap, V1ObjectMeta
from tornado.web import HTTPError

from deploy.jupyterhub import owner_config_map
from deploy.jupyterhub.kube_spawner import BinderKubeSpawner
from deploy.jupyterhub.owner_config_map import OwnerUids
from tests.support.pods_api import PodsAndSecrets
from tests.support.spawners import message_of, spawner_of

Make = Callable[..., Any]


@pytest.fixture
def api() -> PodsAndSecrets:
    return PodsAndSecrets()


@pytest.fixture
def make(api: PodsAndSecrets, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Make a spawner of a new hub, which talks to `api`; a call may take a second."""
    monkeypatch.setattr("kubespawner.spawner.load_config", lambda **_: None)
    monkeypatch.setattr("kubespawner.spawner.shared_client", lambda _: api)
    monkeypatch.setattr(BinderKubeSpawner, "owner_uids", OwnerUids())

    def spawner(**settings: object) -> Any:
        defaults = {"namespace": "servers", "owner_config_map": "bindery", "k8s_api_request_timeout": 1}
        return spawner_of(BinderKubeSpawner, **(defaults | settings))

    return spawner


def make_owner(api: PodsAndSecrets, uid: str, *, namespace: str = "servers", **metadata: object) -> None:
    api.config_maps[f"{namespace}/bindery"] = V1ConfigMap(metadata=V1ObjectMeta(uid=uid, **metadata))


async def uid_of_a_new_pod(spawner: Any) -> str:
    [owner] = (await spawner.get_pod_manifest()).metadata.owner_references
    return str(owner.uid)


async def test_pod_and_secret_belong_to_the_config_map(make: Make, api: PodsAndSecrets) -> None:
    make_owner(api, "uid-1")
    spawner = make()
    pod = await spawner.get_pod_manifest()
    await spawner._create_secret(1)
    for owners in (pod.metadata.owner_references, api.owners["secret"]):
        [owner] = owners or []
        assert owner.to_dict() == {
            "api_version": "v1", "kind": "ConfigMap", "name": "bindery", "uid": "uid-1", "controller": None,
            "block_owner_deletion": None,
        }  # fmt: skip


async def test_without_a_config_map_none_is_read_and_nothing_has_an_owner(make: Make, api: PodsAndSecrets) -> None:
    spawner = make(owner_config_map="")
    pod = await spawner.get_pod_manifest()
    await spawner._create_secret(1)
    assert (pod.metadata.owner_references, api.owners["secret"]) == (None, None)
    assert api.calls == ["create secret"]


async def test_one_call_reads_the_uid_for_all_servers_of_a_while_and_another_finds_a_config_map_made_anew(
    make: Make, api: PodsAndSecrets, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(owner_config_map, "time", SimpleNamespace(monotonic=lambda: now))
    make_owner(api, "old")
    make_owner(api, "elsewhere", namespace="others")
    assert set(await asyncio.gather(*(uid_of_a_new_pod(make()) for _ in range(10)))) == {"old"}
    assert await uid_of_a_new_pod(make(namespace="others")) == "elsewhere"
    make_owner(api, "new")
    now += 59
    assert await uid_of_a_new_pod(make()) == "old"
    assert api.calls == ["read config map"] * 2
    now += 2
    assert await uid_of_a_new_pod(make()) == "new"


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (404, "does not exist: the installation is being removed, or somebody has deleted it."),
        (403, "may not be read: the hub lacks the right to `get` it (`configmaps`)."),
        (None, "is being deleted, as it is when the installation is removed."),
    ],
)
async def test_a_config_map_that_is_missing_or_may_not_be_read_fails_the_start_in_one_sentence_each_time(
    make: Make, api: PodsAndSecrets, status: int | None, words: str
) -> None:
    make_owner(api, "going", deletion_timestamp="2026-11-29T00:00:00Z")
    if status:
        api.config_maps["servers/bindery"] = ApiException(status=status)
    for _ in range(2):
        with pytest.raises(HTTPError) as raised:
            await make().get_pod_manifest()
        assert message_of(raised.value) == f"The ConfigMap bindery in servers, to which servers belong, {words}"
    make_owner(api, "there")
    assert await uid_of_a_new_pod(make()) == "there"


@pytest.mark.slow
async def test_a_read_that_gets_no_answer_is_tried_again(make: Make, api: PodsAndSecrets) -> None:
    make_owner(api, "uid-1")
    api.hangs = {"read config map": 1}
    assert await uid_of_a_new_pod(make()) == "uid-1"
    assert api.calls == ["read config map"] * 2
