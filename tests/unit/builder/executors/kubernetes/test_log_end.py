"""The end of a failed build has its lines, however many builds a worker follows; if it has none, it says so."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from services.builder.executors.base import Attempt, Batch, Finished
from services.builder.executors.kubernetes.executor import KubernetesExecutor
from tests.support.kubernetes_api import KubernetesApi, working
from tests.support.polling import until
from tests.support.sample_builds import ATTEMPT

JOB = f"bindery-{ATTEMPT.name}"
RUNNING: dict[str, object] = {"running": {}}
FAILED: dict[str, object] = {"terminated": {"exitCode": 1}}
FIRST = b'2026-11-23T23:00:00.1Z {"phase": "building", "message": "first\\n"}\n'
REASON = b'2026-11-23T23:00:00.2Z {"phase": "failed", "message": "Error during build: no such package\\n"}\n'
NODE_NOTE = b"unable to retrieve container logs for containerd://0123"


async def follow(
    executor: KubernetesExecutor, attempt: Attempt, *, messages: list[str], position: str = ""
) -> Finished:
    """Follow to the end, and collect the messages of the log."""
    async for update in executor.follow(attempt, position):
        if isinstance(update, Finished):
            return update
        assert isinstance(update, Batch)
        messages += [line.message for line in update.lines]
    raise AssertionError("it ended without a result")


async def test_a_worker_with_8_slots_that_took_over_16_builds_reads_all_their_logs(
    api: KubernetesApi, tmp_path: Path
) -> None:
    attempts = [replace(ATTEMPT, build_id=f"{n:024}-1", epoch=2) for n in range(16)]
    messages: dict[str, list[str]] = {attempt.name: [] for attempt in attempts}
    async with working(api, tmp_path, build_slots=8) as start_executor, asyncio.timeout(20):
        before = start_executor()
        for attempt in attempts:
            await before.ensure(replace(attempt, epoch=1))
            await api.pod(f"bindery-{attempt.name}", state=RUNNING, log=FIRST, phase="Running")
        await before.aclose()

        adopter = start_executor()
        for attempt in attempts:
            await adopter.ensure(attempt)
        outcomes = [
            asyncio.create_task(follow(adopter, attempt, messages=messages[attempt.name])) for attempt in attempts
        ]
        await until(lambda: len([pod for pod, count in api.log_streams.items() if count]) == 16)

        last = attempts[-1]
        await api.pod(f"bindery-{last.name}", state=FAILED, log=FIRST + REASON, phase="Failed")
        outcome = await outcomes[-1]
        assert (outcome.error_code, "no such package" in str(outcome.error_message)) == ("build_failed", True)
        assert messages[last.name] == ["first\n", "Error during build: no such package\n"]
        for task in outcomes:
            task.cancel()
        await asyncio.gather(*outcomes, return_exceptions=True)


@pytest.mark.parametrize(
    "refusal",
    [
        web.Response(status=500, text="Get https://node:10250/containerLogs: connection refused"),
        web.Response(status=400, text="container not found"),
        web.Response(body=NODE_NOTE),
    ],
    ids=["its node is away", "its container is gone", "its node has no log"],
)
async def test_a_failed_build_whose_log_cant_be_read_is_the_author_s_and_says_that_the_log_is_missing(
    api: KubernetesApi, tmp_path: Path, refusal: web.Response
) -> None:
    async with working(api, tmp_path, build_log_end_seconds=0.5) as start_executor, asyncio.timeout(20):
        await (worker := start_executor()).ensure(ATTEMPT)
        pod = (await api.pod(JOB, state=FAILED, phase="Failed"))["metadata"]["name"]
        api.log_refusals[pod] = refusal
        outcome = await follow(worker, ATTEMPT, messages=[])
        assert outcome.error_code == "build_failed"
        assert "the end of the log, with the reason, is missing" in str(outcome.error_message)


async def test_the_end_of_a_log_that_cant_be_read_for_a_moment_is_waited_for(
    api: KubernetesApi, tmp_path: Path
) -> None:
    async with working(api, tmp_path) as start_executor, asyncio.timeout(20):
        await (worker := start_executor()).ensure(ATTEMPT)
        pod = (await api.pod(JOB, state=FAILED, log=FIRST + REASON, phase="Failed"))["metadata"]["name"]
        api.log_refusals[pod] = web.Response(status=500, text="no route to the node")
        messages: list[str] = []
        task = asyncio.create_task(follow(worker, ATTEMPT, messages=messages))
        await until(lambda: api.refused_logs >= 3)
        del api.log_refusals[pod]
        outcome = await task
        assert (outcome.error_code, "no such package" in str(outcome.error_message)) == ("build_failed", True)
        assert messages == ["first\n", "Error during build: no such package\n"]


async def test_a_build_that_has_failed_is_not_lost_because_its_pod_is_deleted_before_its_log_was_read(
    api: KubernetesApi, tmp_path: Path
) -> None:
    async with working(api, tmp_path) as start_executor, asyncio.timeout(20):
        await (worker := start_executor()).ensure(ATTEMPT)
        pod = await api.pod(JOB, state=FAILED, phase="Failed")
        api.log_refusals[pod["metadata"]["name"]] = web.Response(status=500, text="no route to the node")
        updates = worker.follow(ATTEMPT, "")
        assert await anext(updates) == Batch((), f"0/0/{api.job_uids[0]}")
        await api.put("pods", pod, how="DELETED")
        async for update in updates:
            if isinstance(update, Finished):
                assert update.error_code == "build_failed"
                assert "is missing" in str(update.error_message)
                return
    raise AssertionError("it ended without a result")
