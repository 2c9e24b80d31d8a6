"""A Job is followed by its identity, and while its pod can't say anything, each look tells so."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from services.builder.executors.base import Attempt, Batch, ExecutionVanishedError, Finished
from services.builder.executors.kubernetes.executor import KubernetesExecutor
from services.builder.executors.kubernetes.logs import Position
from services.builder.executors.kubernetes.settings import KubernetesSettings
from tests.support.kubernetes_api import KubernetesApi, serving
from tests.support.settings import settings_for

ATTEMPT = Attempt(
    build_id=f"{'a' * 24}-1", image="registry/image:ref", repo_url="https://example.org/repo", ref="ref", epoch=1
)
ADOPTED = replace(ATTEMPT, epoch=2)
JOB = f"bindery-{ATTEMPT.name}"
RUNNING: dict[str, object] = {"running": {}}
LINES = [f"2026-11-23T23:00:0{n}.000000001Z line {n}\n".encode() for n in range(4)]
STUCK = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}]


@pytest.fixture
async def api() -> KubernetesApi:
    return KubernetesApi()


@contextlib.asynccontextmanager
async def working(
    api: KubernetesApi, folder: Path, **settings: object
) -> AsyncIterator[Callable[[], KubernetesExecutor]]:
    """Make executors, each as another worker has it."""
    made: list[KubernetesExecutor] = []
    async with serving(api.answer, folder) as config:

        def begin() -> KubernetesExecutor:
            known = {"kubernetes_config": str(config), "kubernetes_settle_seconds": 0} | settings
            made.append(KubernetesExecutor(settings_for(KubernetesSettings, known)))
            return made[-1]

        try:
            yield begin
        finally:
            for executor in made:
                await executor.aclose()


async def first(executor: KubernetesExecutor, attempt: Attempt, position: str = "", *, said: str = "") -> Batch:
    """The first batch that says something; with `said`, the first that ends so."""
    async with asyncio.timeout(20):
        async for news in executor.follow(attempt, position):
            assert isinstance(news, Batch), news
            if news.lines and news.lines[-1].message.endswith(said):
                return news
    raise AssertionError("nothing was told")


async def test_a_job_deleted_while_nobody_followed_it_has_vanished_and_its_successor_is_deleted(
    api: KubernetesApi, tmp_path: Path
) -> None:
    async with working(api, tmp_path) as begin:
        await (worker := begin()).ensure(ATTEMPT)
        await api.pod(JOB, state=RUNNING, log=LINES[0] + LINES[1], phase="Running")
        position = (await first(worker, ATTEMPT, said="line 1\n")).position
        await worker.aclose()
        await api.delete_job(JOB)

        await (adopter := begin()).ensure(ADOPTED)
        assert len(api.made) == 2
        with pytest.raises(ExecutionVanishedError, match="its Job was deleted"):
            await first(adopter, ADOPTED, position)
        assert api.objects["jobs"] == {}


async def test_a_worker_whose_own_job_was_deleted_in_an_outage_sees_the_same(
    api: KubernetesApi, tmp_path: Path
) -> None:
    async with working(api, tmp_path) as begin:
        await (worker := begin()).ensure(ATTEMPT)
        await api.pod(JOB, state=RUNNING, log=LINES[0], phase="Running")
        position = (await first(worker, ATTEMPT, said="line 0\n")).position
        await api.delete_job(JOB)
        await worker.ensure(ATTEMPT)
        await api.pod(JOB, state=RUNNING, log=LINES[0], phase="Running")
        with pytest.raises(ExecutionVanishedError):
            await first(worker, ATTEMPT, position)


async def test_what_is_in_the_way_before_the_first_line_is_stored_with_the_job_that_it_is_of(
    api: KubernetesApi, tmp_path: Path
) -> None:
    async with working(api, tmp_path) as begin:
        await (worker := begin()).ensure(ATTEMPT)
        await api.pod(JOB, conditions=STUCK)
        told = await first(worker, ATTEMPT)
        assert told.lines[0].phase == "waiting"
        assert Position.parse(told.position) == Position(job=api.made[0])
        await api.delete_job(JOB)
        await worker.ensure(ATTEMPT)
        with pytest.raises(ExecutionVanishedError):
            await first(worker, ATTEMPT, told.position)


async def test_a_job_that_says_nothing_yet_is_named_all_the_same(api: KubernetesApi, tmp_path: Path) -> None:
    async with working(api, tmp_path) as begin:
        await (worker := begin()).ensure(ATTEMPT)
        await api.pod(JOB)
        async with asyncio.timeout(20):
            told = await anext(worker.follow(ATTEMPT, ""))
        assert told == Batch((), f"0/0/{api.made[0]}")


@pytest.mark.parametrize("position", ["", "1795474800000000001/1"])
async def test_who_adopts_a_job_that_nothing_tells_the_identity_of_goes_on_with_it(
    api: KubernetesApi, tmp_path: Path, position: str
) -> None:
    """Its worker has died right after it made it, or stored positions that named no Job yet."""
    async with working(api, tmp_path) as begin:
        await begin().ensure(ATTEMPT)
        await api.pod(JOB, state=RUNNING, log=b"".join(LINES), phase="Running")
        await (adopter := begin()).ensure(ADOPTED)
        told = await first(adopter, ADOPTED, position)
        assert [line.message for line in told.lines] == [f"line {n}\n" for n in range(1 if position else 0, 4)]
        assert Position.parse(told.position).job == api.made[0]
        assert len(api.made) == 1


async def test_a_job_that_fills_its_quota_itself_is_adopted_and_one_that_is_gone_has_vanished(
    api: KubernetesApi, tmp_path: Path
) -> None:
    async with working(api, tmp_path) as begin:
        await (worker := begin()).ensure(ATTEMPT)
        await api.pod(JOB, state=RUNNING, log=LINES[0], phase="Running")
        api.is_full = True
        await (adopter := begin()).ensure(ADOPTED)
        position = (await first(adopter, ADOPTED)).position
        await api.delete_job(JOB)
        await worker.ensure(ATTEMPT)
        with pytest.raises(ExecutionVanishedError):
            await first(worker, ATTEMPT, position)


async def test_a_warning_from_before_is_as_old_as_it_says_and_one_that_is_heard_is_new_by_any_clock(
    api: KubernetesApi, tmp_path: Path
) -> None:
    async with working(api, tmp_path) as begin:
        await (worker := begin()).ensure(ATTEMPT)
        pod = (await api.pod(JOB, state={"waiting": {"reason": "ContainerCreating"}}))["metadata"]["name"]
        await api.warn(pod, "FailedMount", "the Secret is not there yet")
        news = worker.follow(ATTEMPT, "")
        async with asyncio.timeout(20):
            assert await anext(news) == Batch((), f"0/0/{api.made[0]}"), "nothing is said of what is long over"
            await api.warn(pod, "FailedMount", "the Secret is not there still", at="2020-01-01T00:01:00Z")
            while not (told := await anext(news)).lines:  # type: ignore[union-attr]
                assert told == Batch((), f"0/0/{api.made[0]}")
        assert isinstance(told, Batch)
        assert "the Secret is not there still" in told.lines[0].message


@pytest.mark.slow
async def test_a_job_is_made_once_there_is_room_and_its_end_is_told(api: KubernetesApi, tmp_path: Path) -> None:
    api.is_full = True
    async with working(api, tmp_path, kubernetes_probe_seconds=0.1) as begin:
        await (worker := begin()).ensure(ATTEMPT)
        news = worker.follow(ATTEMPT, "")
        async with asyncio.timeout(20):
            waits = await anext(news)
            assert isinstance(waits, Batch)
            assert "exceeded quota: full" in waits.lines[0].message
            assert waits.position == ""
            api.is_full = False
            async for item in news:
                if JOB in api.objects["jobs"] and not api.objects["pods"]:
                    ended = {"terminated": {"exitCode": 0}}
                    await api.pod(JOB, state=ended, log=LINES[0], phase="Succeeded")
                if isinstance(item, Finished):
                    assert item.ok
                    return
    raise AssertionError("the log ended without a result")


@pytest.mark.slow
async def test_a_build_without_a_pod_or_whose_image_is_fetched_says_each_time_that_it_cant_speak(
    api: KubernetesApi, tmp_path: Path
) -> None:
    async with working(api, tmp_path) as begin, asyncio.timeout(20):
        await (worker := begin()).ensure(ATTEMPT)
        news, nothing = worker.follow(ATTEMPT, ""), Batch((), f"0/0/{api.made[0]}")
        assert [await anext(news) for _ in range(3)] == [nothing] * 3
        await api.pod(JOB, state={"waiting": {"reason": "ContainerCreating"}})
        assert [await anext(news) for _ in range(3)] == [nothing] * 3


@pytest.mark.slow
async def test_what_is_in_the_way_is_told_once_and_then_that_nothing_can_be_said(
    api: KubernetesApi, tmp_path: Path
) -> None:
    async with working(api, tmp_path) as begin, asyncio.timeout(20):
        await (worker := begin()).ensure(ATTEMPT)
        await api.pod(JOB, conditions=STUCK)
        news, nothing = worker.follow(ATTEMPT, ""), Batch((), f"0/0/{api.made[0]}")
        while (told := await anext(news)) == nothing:
            pass
        assert isinstance(told, Batch)
        assert [line.phase for line in told.lines] == ["waiting"]
        assert [await anext(news) for _ in range(2)] == [nothing] * 2


async def test_a_build_that_runs_tells_what_it_says_and_nothing_of_its_silence(
    api: KubernetesApi, tmp_path: Path
) -> None:
    async with working(api, tmp_path) as begin, asyncio.timeout(20):
        await (worker := begin()).ensure(ATTEMPT)
        await api.pod(JOB, state=RUNNING, log=LINES[0], phase="Running")
        news = worker.follow(ATTEMPT, "")
        while (told := await anext(news)) == Batch((), f"0/0/{api.made[0]}"):
            pass
        assert isinstance(told, Batch)
        assert [line.message for line in told.lines] == ["line 0\n"]
        await api.pod(JOB, state=RUNNING, log=LINES[0], phase="Running", conditions=[])
        await api.pod(JOB, state={"terminated": {"exitCode": 0}}, log=LINES[0], phase="Succeeded")
        assert await anext(news) == Finished(ok=True)
