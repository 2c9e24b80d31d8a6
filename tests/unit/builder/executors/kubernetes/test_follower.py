"""A Job is followed by its identity, and while its pod can't say anything, each look tells so."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from services.builder.executors.base import Attempt, Batch, ExecutionVanishedError, Finished
from services.builder.executors.kubernetes.executor import KubernetesExecutor
from services.builder.executors.kubernetes.logs import PodLogPosition
from tests.support.kubernetes_api import KubernetesApi, working
from tests.support.sample_builds import ATTEMPT

ADOPTED = replace(ATTEMPT, epoch=2)
JOB = f"bindery-{ATTEMPT.name}"
RUNNING: dict[str, object] = {"running": {}}
LINES = [f"2026-11-23T23:00:0{n}.000000001Z line {n}\n".encode() for n in range(4)]
STUCK = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}]


async def first(executor: KubernetesExecutor, attempt: Attempt, position: str = "", *, ending: str = "") -> Batch:
    """The first batch that says something; with `said`, the first that ends so."""
    async with asyncio.timeout(20):
        async for update in executor.follow(attempt, position):
            assert isinstance(update, Batch), update
            if update.lines and update.lines[-1].message.endswith(ending):
                return update
    raise AssertionError("nothing was told")


async def test_a_job_deleted_while_nobody_followed_it_has_vanished_and_its_successor_is_deleted(
    api: KubernetesApi, tmp_path: Path
) -> None:
    async with working(api, tmp_path) as start_executor:
        await (worker := start_executor()).ensure(ATTEMPT)
        await api.pod(JOB, state=RUNNING, log=LINES[0] + LINES[1], phase="Running")
        position = (await first(worker, ATTEMPT, ending="line 1\n")).position
        await worker.aclose()
        await api.delete_job(JOB)

        await (adopter := start_executor()).ensure(ADOPTED)
        assert len(api.job_uids) == 2
        with pytest.raises(ExecutionVanishedError, match="its Job was deleted"):
            await first(adopter, ADOPTED, position)
        assert api.objects["jobs"] == {}


async def test_a_worker_whose_own_job_was_deleted_in_an_outage_sees_the_same(
    api: KubernetesApi, tmp_path: Path
) -> None:
    async with working(api, tmp_path) as start_executor:
        await (worker := start_executor()).ensure(ATTEMPT)
        await api.pod(JOB, state=RUNNING, log=LINES[0], phase="Running")
        position = (await first(worker, ATTEMPT, ending="line 0\n")).position
        await api.delete_job(JOB)
        await worker.ensure(ATTEMPT)
        await api.pod(JOB, state=RUNNING, log=LINES[0], phase="Running")
        with pytest.raises(ExecutionVanishedError):
            await first(worker, ATTEMPT, position)


async def test_what_is_in_the_way_before_the_first_line_is_stored_with_the_job_that_it_is_of(
    api: KubernetesApi, tmp_path: Path
) -> None:
    async with working(api, tmp_path) as start_executor:
        await (worker := start_executor()).ensure(ATTEMPT)
        await api.pod(JOB, conditions=STUCK)
        update = await first(worker, ATTEMPT)
        assert update.lines[0].phase == "waiting"
        assert PodLogPosition.parse(update.position) == PodLogPosition(job=api.job_uids[0])
        await api.delete_job(JOB)
        await worker.ensure(ATTEMPT)
        with pytest.raises(ExecutionVanishedError):
            await first(worker, ATTEMPT, update.position)


async def test_a_job_that_says_nothing_yet_is_named_all_the_same(api: KubernetesApi, tmp_path: Path) -> None:
    async with working(api, tmp_path) as start_executor:
        await (worker := start_executor()).ensure(ATTEMPT)
        await api.pod(JOB)
        async with asyncio.timeout(20):
            update = await anext(worker.follow(ATTEMPT, ""))
        assert update == Batch((), f"0/0/{api.job_uids[0]}")


@pytest.mark.parametrize("position", ["", "1795474800000000001/1"])
async def test_who_adopts_a_job_that_nothing_tells_the_identity_of_goes_on_with_it(
    api: KubernetesApi, tmp_path: Path, position: str
) -> None:
    """Its worker has died right after it made it, or stored positions that named no Job yet."""
    async with working(api, tmp_path) as start_executor:
        await start_executor().ensure(ATTEMPT)
        await api.pod(JOB, state=RUNNING, log=b"".join(LINES), phase="Running")
        await (adopter := start_executor()).ensure(ADOPTED)
        update = await first(adopter, ADOPTED, position)
        assert [line.message for line in update.lines] == [f"line {n}\n" for n in range(1 if position else 0, 4)]
        assert PodLogPosition.parse(update.position).job == api.job_uids[0]
        assert len(api.job_uids) == 1


async def test_a_job_that_fills_its_quota_itself_is_adopted_and_one_that_is_gone_has_vanished(
    api: KubernetesApi, tmp_path: Path
) -> None:
    async with working(api, tmp_path) as start_executor:
        await (worker := start_executor()).ensure(ATTEMPT)
        await api.pod(JOB, state=RUNNING, log=LINES[0], phase="Running")
        api.is_full = True
        await (adopter := start_executor()).ensure(ADOPTED)
        position = (await first(adopter, ADOPTED)).position
        await api.delete_job(JOB)
        await worker.ensure(ATTEMPT)
        with pytest.raises(ExecutionVanishedError):
            await first(worker, ATTEMPT, position)


async def test_a_warning_from_before_is_as_old_as_it_says_and_one_that_is_heard_is_new_by_any_clock(
    api: KubernetesApi, tmp_path: Path
) -> None:
    async with working(api, tmp_path) as start_executor:
        await (worker := start_executor()).ensure(ATTEMPT)
        pod = (await api.pod(JOB, state={"waiting": {"reason": "ContainerCreating"}}))["metadata"]["name"]
        await api.warn(pod, "FailedMount", "the Secret is not there yet")
        updates = worker.follow(ATTEMPT, "")
        async with asyncio.timeout(20):
            assert await anext(updates) == Batch((), f"0/0/{api.job_uids[0]}"), "nothing is said of what is long over"
            await api.warn(pod, "FailedMount", "the Secret is not there still", at="2020-01-01T00:01:00Z")
            while not (update := await anext(updates)).lines:  # type: ignore[union-attr]
                assert update == Batch((), f"0/0/{api.job_uids[0]}")
        assert isinstance(update, Batch)
        assert "the Secret is not there still" in update.lines[0].message


@pytest.mark.slow
async def test_a_job_is_made_once_there_is_room_and_its_end_is_told(api: KubernetesApi, tmp_path: Path) -> None:
    api.is_full = True
    async with working(api, tmp_path, kubernetes_probe_seconds=0.1) as start_executor:
        await (worker := start_executor()).ensure(ATTEMPT)
        updates = worker.follow(ATTEMPT, "")
        async with asyncio.timeout(20):
            refused_batch = await anext(updates)
            assert isinstance(refused_batch, Batch)
            assert "exceeded quota: full" in refused_batch.lines[0].message
            assert refused_batch.position == ""
            api.is_full = False
            async for item in updates:
                if JOB in api.objects["jobs"] and not api.objects["pods"]:
                    state = {"terminated": {"exitCode": 0}}
                    await api.pod(JOB, state=state, log=LINES[0], phase="Succeeded")
                if isinstance(item, Finished):
                    assert item.ok
                    return
    raise AssertionError("the log ended without a result")


@pytest.mark.slow
async def test_a_build_without_a_pod_or_whose_image_is_fetched_says_each_time_that_it_cant_speak(
    api: KubernetesApi, tmp_path: Path
) -> None:
    async with working(api, tmp_path) as start_executor, asyncio.timeout(20):
        await (worker := start_executor()).ensure(ATTEMPT)
        updates = worker.follow(ATTEMPT, "")
        nothing = Batch((), f"0/0/{api.job_uids[0]}")
        assert [await anext(updates) for _ in range(3)] == [nothing] * 3
        await api.pod(JOB, state={"waiting": {"reason": "ContainerCreating"}})
        assert [await anext(updates) for _ in range(3)] == [nothing] * 3


@pytest.mark.slow
async def test_what_is_in_the_way_is_told_once_and_then_that_nothing_can_be_said(
    api: KubernetesApi, tmp_path: Path
) -> None:
    async with working(api, tmp_path) as start_executor, asyncio.timeout(20):
        await (worker := start_executor()).ensure(ATTEMPT)
        await api.pod(JOB, conditions=STUCK)
        updates = worker.follow(ATTEMPT, "")
        nothing = Batch((), f"0/0/{api.job_uids[0]}")
        while (update := await anext(updates)) == nothing:
            pass
        assert isinstance(update, Batch)
        assert [line.phase for line in update.lines] == ["waiting"]
        assert [await anext(updates) for _ in range(2)] == [nothing] * 2


async def test_a_build_that_runs_tells_what_it_says_and_nothing_of_its_silence(
    api: KubernetesApi, tmp_path: Path
) -> None:
    async with working(api, tmp_path) as start_executor, asyncio.timeout(20):
        await (worker := start_executor()).ensure(ATTEMPT)
        await api.pod(JOB, state=RUNNING, log=LINES[0], phase="Running")
        updates = worker.follow(ATTEMPT, "")
        while (update := await anext(updates)) == Batch((), f"0/0/{api.job_uids[0]}"):
            pass
        assert isinstance(update, Batch)
        assert [line.message for line in update.lines] == ["line 0\n"]
        await api.pod(JOB, state=RUNNING, log=LINES[0], phase="Running", conditions=[])
        await api.pod(JOB, state={"terminated": {"exitCode": 0}}, log=LINES[0], phase="Succeeded")
        assert await anext(updates) == Finished(ok=True)
