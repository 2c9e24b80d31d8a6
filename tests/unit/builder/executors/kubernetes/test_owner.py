"""Jobs belong to a ConfigMap that the operator names: its uid is remembered for a while, and builds wait for it."""

import asyncio
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from aiohttp import web

from services.builder.executors.base import Attempt, Batch, ExecutorUnavailableError, Finished
from services.builder.executors.kubernetes import owner
from services.builder.executors.kubernetes.api import Api
from services.builder.executors.kubernetes.executor import KubernetesExecutor
from services.builder.executors.kubernetes.settings import KubernetesSettings
from tests.support.kubernetes_api import Json, KubernetesApi, serving, working
from tests.support.polling import until
from tests.support.sample_builds import ATTEMPT
from tests.support.settings import settings_for

NAME = "bindery"
JOB = f"bindery-{ATTEMPT.name}"


def attempt(number: int) -> Attempt:
    return replace(ATTEMPT, build_id=f"{'b' * 24}-{number}")


async def make_owner(api: KubernetesApi, **metadata: object) -> str:
    """Make the ConfigMap, anew if there is one; return its uid."""
    uid: str = (await api.put("configmaps", {"metadata": {"name": NAME, **metadata}}))["metadata"]["uid"]
    return uid


async def owners_of_a_new_job(executor: KubernetesExecutor, api: KubernetesApi, wanted: Attempt) -> list[Json]:
    await executor.ensure(wanted)
    owners: list[Json] = api.objects["jobs"][f"bindery-{wanted.name}"]["metadata"]["ownerReferences"]
    return owners


async def test_a_job_belongs_to_the_config_map_and_its_secret_to_the_job(api: KubernetesApi, tmp_path: Path) -> None:
    uid = await make_owner(api)
    async with working(api, tmp_path, kubernetes_owner=NAME) as start_executor:
        owners = await owners_of_a_new_job(start_executor(), api, ATTEMPT)
    assert owners == [{"apiVersion": "v1", "kind": "ConfigMap", "name": NAME, "uid": uid}]
    [secret] = api.objects["secrets"].values()
    assert [reference["uid"] for reference in secret["metadata"]["ownerReferences"]] == api.job_uids


async def test_without_a_config_map_in_the_settings_none_is_read_and_a_job_belongs_to_nobody(
    api: KubernetesApi, tmp_path: Path
) -> None:
    api.forbidden = {"configmaps"}
    async with working(api, tmp_path) as start_executor:
        assert await owners_of_a_new_job(start_executor(), api, ATTEMPT) == []
    assert "configmaps" not in api.reads


async def test_one_call_reads_the_uid_for_all_jobs_of_a_while_and_another_finds_a_config_map_made_anew(
    api: KubernetesApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(owner, "time", SimpleNamespace(monotonic=lambda: now))
    old_uid = await make_owner(api)
    async with working(api, tmp_path, kubernetes_owner=NAME, kubernetes_owner_seconds=60) as start_executor:
        executor = start_executor()
        jobs = await asyncio.gather(*(owners_of_a_new_job(executor, api, attempt(number)) for number in range(10)))
        assert {owners[0]["uid"] for owners in jobs} == {old_uid}
        new_uid = await make_owner(api)
        now += 59
        assert (await owners_of_a_new_job(executor, api, attempt(20)))[0]["uid"] == old_uid
        assert api.reads.count("configmaps") == 1
        now += 2
        assert (await owners_of_a_new_job(executor, api, attempt(21)))[0]["uid"] == new_uid
        assert api.reads.count("configmaps") == 2


async def test_all_who_wait_for_a_read_fail_with_it_though_the_first_of_them_has_left(tmp_path: Path) -> None:
    reads = 0
    may_fail = asyncio.Event()

    async def fail(_: web.Request) -> web.Response:
        nonlocal reads
        reads += 1
        await may_fail.wait()
        return web.Response(status=503)

    async with serving(fail, tmp_path) as config:
        settings = settings_for(KubernetesSettings, {"kubernetes_config": str(config), "kubernetes_owner": NAME})
        api = Api(settings)
        config_map = owner.Owner(api, settings)
        first, *others = [asyncio.create_task(config_map.references()) for _ in range(5)]
        await until(lambda: reads == 1)
        first.cancel()
        await until(lambda: reads == 2)
        may_fail.set()
        ends = await asyncio.gather(*others, return_exceptions=True)
        await api.aclose()
    assert [type(end) for end in ends] == [ExecutorUnavailableError] * 4
    assert reads == 2


async def test_another_run_of_a_build_reads_the_uid_again_for_the_old_one_may_be_why_its_job_vanished(
    api: KubernetesApi, tmp_path: Path
) -> None:
    await make_owner(api)
    async with working(api, tmp_path, kubernetes_owner=NAME) as start_executor:
        executor = start_executor()
        await executor.ensure(ATTEMPT)
        new_uid = await make_owner(api)
        assert (await owners_of_a_new_job(executor, api, replace(ATTEMPT, run=2)))[0]["uid"] == new_uid


@pytest.mark.parametrize(
    ("metadata", "forbidden", "words"),
    [
        (None, set(), "does not exist: the installation is being removed, or somebody has deleted it"),
        ({}, {"configmaps"}, "may not be read: builder workers lack the right to `get` it (`configmaps`)"),
        ({"deletionTimestamp": "2026-11-23T23:00:00Z"}, set(), "is being deleted"),
    ],
)
async def test_a_build_without_an_owner_waits_visibly_asks_seldom_and_fails_with_the_reason(
    api: KubernetesApi, tmp_path: Path, metadata: dict[str, object] | None, forbidden: set[str], words: str
) -> None:
    if metadata is not None:
        await make_owner(api, **metadata)
    api.forbidden = forbidden
    settings = {"kubernetes_owner": NAME, "kubernetes_start_seconds": 0.2, "kubernetes_probe_seconds": 1000}
    async with working(api, tmp_path, **settings) as start_executor, asyncio.timeout(20):
        await (executor := start_executor()).ensure(ATTEMPT)
        await executor.ensure(replace(ATTEMPT, run=2))
        updates = [update async for update in executor.follow(ATTEMPT, "")]
    said = updates[0]
    assert isinstance(said, Batch)
    assert said.lines[0].phase == "waiting"
    assert said.lines[0].message.startswith(f"The ConfigMap {NAME}, to which builds belong, {words}")
    end = updates[-1]
    assert isinstance(end, Finished)
    assert (end.ok, end.error_code) == (False, "executor_unavailable")
    assert words in (end.error_message or "")
    assert api.objects["jobs"] == {}
    assert api.reads.count("configmaps") == 1


@pytest.mark.slow
async def test_a_build_goes_on_once_its_owner_is_there(api: KubernetesApi, tmp_path: Path) -> None:
    async with working(api, tmp_path, kubernetes_owner=NAME, kubernetes_probe_seconds=0.1) as start_executor:
        await (executor := start_executor()).ensure(ATTEMPT)
        async with asyncio.timeout(20):
            async for _ in executor.follow(ATTEMPT, ""):
                if api.objects["configmaps"]:
                    break
                await make_owner(api)
            async for _ in executor.follow(ATTEMPT, ""):
                if JOB in api.objects["jobs"]:
                    break
    assert api.objects["jobs"][JOB]["metadata"]["ownerReferences"]


async def test_a_job_that_is_there_is_adopted_though_its_owner_is_missing(api: KubernetesApi, tmp_path: Path) -> None:
    await make_owner(api)
    async with working(api, tmp_path, kubernetes_owner=NAME) as start_executor:
        await start_executor().ensure(ATTEMPT)
        api.objects["configmaps"].clear()
        await start_executor().ensure(replace(ATTEMPT, epoch=2))
    assert api.objects["jobs"][JOB]["metadata"]["annotations"]["bindery/epoch"] == "2"
