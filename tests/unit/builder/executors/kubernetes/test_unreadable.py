"""What can't be read is skipped and counted: it ends no watch, hides no other object, and loses no build."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from services.builder.executors.base import ExecutorUnavailableError, Finished
from services.builder.executors.kubernetes.executor import KubernetesExecutor
from services.builder.executors.kubernetes.states import JobState, PodState, WarningEvent
from services.builder.executors.kubernetes.unreadable import ObjectReader, UnreadableObjectError
from services.common.service.loops import background_state
from tests.support.kubernetes_api import STAMP, Json, KubernetesApi, executors, serving, working
from tests.support.metrics import sample
from tests.support.polling import until
from tests.support.sample_builds import ATTEMPT
from tests.support.watch_proxy import watch_proxy

JOB = f"bindery-{ATTEMPT.name}"
RUNNING: dict[str, object] = {"running": {}}
SUCCEEDED: dict[str, object] = {"terminated": {"exitCode": 0}}
LINE = b"2026-11-23T23:00:00.1Z a line\n"
OUR_LABELS = {"bindery/installation": "i", "bindery/build-id": ATTEMPT.build_id}
STRANGE_POD: Json = {
    "metadata": {"name": "bindery-strange", "labels": OUR_LABELS},
    "spec": {"containers": [{"name": "other"}]},
    "status": {"phase": "Running"},
}
STRANGE_JOB: Json = {"metadata": {"name": "bindery-strange", "labels": OUR_LABELS}, "spec": None}


def unreadable(resource: str, what: str = "object") -> float:
    return sample("bindery_kubernetes_unreadable_total", resource=resource, what=what)


def staleness(resource: str) -> float:
    return sample("bindery_kubernetes_watch_staleness_seconds", resource=resource)


async def messages_until(
    executor: KubernetesExecutor, message: str, *, then: asyncio.Event, messages: list[str]
) -> Finished:
    """Follow to the end, collect the messages, and set an event at one of them."""
    async for update in executor.follow(ATTEMPT, ""):
        if isinstance(update, Finished):
            return update
        messages += [line.message for line in update.lines]
        if message in messages:
            then.set()
    raise AssertionError("it ended without a result")


def started(executor: KubernetesExecutor) -> tuple[asyncio.Task[Finished], asyncio.Event]:
    """Follow the build in a task; the event is set once its first line was read."""
    was_read = asyncio.Event()
    return asyncio.create_task(messages_until(executor, "a line\n", then=was_read, messages=[])), was_read


async def test_a_line_of_a_watch_that_is_cut_off_costs_a_list_and_no_build(api: KubernetesApi, tmp_path: Path) -> None:
    count = unreadable("pods", "line")
    async with serving(api.answer, tmp_path) as config:
        with watch_proxy(config) as (proxy, proxied):
            async with executors(proxied) as start_executor, asyncio.timeout(20):
                await (worker := start_executor()).ensure(ATTEMPT)
                await api.pod(JOB, state=RUNNING, log=LINE, phase="Running")
                outcome, was_read = started(worker)
                await was_read.wait()

                proxy.cut_next_line("pods")
                await api.pod(JOB, state=SUCCEEDED, log=LINE, phase="Succeeded")
                assert await outcome == Finished(ok=True)
                assert proxy.cuts == 1
    assert unreadable("pods", "line") == count + 1


@pytest.mark.parametrize("is_there_before", [True, False], ids=["in the list", "as a change"])
@pytest.mark.parametrize(("resource", "raw"), [("pods", STRANGE_POD), ("jobs", STRANGE_JOB)])
async def test_an_object_with_our_labels_that_is_not_one_of_ours_hides_no_other(
    api: KubernetesApi, tmp_path: Path, resource: str, raw: Json, *, is_there_before: bool
) -> None:
    count = unreadable(resource)
    strange: Json = {**raw, "metadata": dict(raw["metadata"])}
    async with working(api, tmp_path) as start_executor, asyncio.timeout(20):
        if is_there_before:
            await api.put(resource, strange)
        await (worker := start_executor()).ensure(ATTEMPT)
        await api.pod(JOB, state=RUNNING, log=LINE, phase="Running")
        outcome, was_read = started(worker)
        await was_read.wait()
        if not is_there_before:
            await api.put(resource, strange)
            await api.put(resource, strange, how="DELETED")

        assert [execution.build_id for execution in await worker.list()] == [ATTEMPT.build_id]
        await api.pod(JOB, state=SUCCEEDED, log=LINE, phase="Succeeded")
        assert await outcome == Finished(ok=True)
        assert await worker.health_problem() is None
    assert unreadable(resource) > count


async def test_a_build_is_not_lost_because_its_pod_can_t_be_read(api: KubernetesApi, tmp_path: Path) -> None:
    async with working(api, tmp_path) as start_executor, asyncio.timeout(20):
        await (worker := start_executor()).ensure(ATTEMPT)
        pod = await api.pod(JOB, state={"terminated": {"exitCode": 1}}, phase="Failed")
        await api.put("pods", pod | {"metadata": pod["metadata"] | {"creationTimestamp": "yesterday"}})
        failed = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}
        await api.put("jobs", api.objects["jobs"][JOB] | {"status": {"conditions": [failed]}})
        outcome, _ = started(worker)
        with pytest.raises(ExecutorUnavailableError, match="can't be read"):
            await outcome


async def test_a_watch_task_that_has_ended_fails_health_and_ends_the_process(
    api: KubernetesApi, tmp_path: Path
) -> None:
    async with working(api, tmp_path) as start_executor, asyncio.timeout(20):
        await (worker := start_executor()).ensure(ATTEMPT)
        await api.pod(JOB, state=RUNNING, log=LINE, phase="Running")
        outcome, was_read = started(worker)
        await was_read.wait()
        assert await worker.health_problem() is None

        [watch] = [task for task in asyncio.all_tasks() if task.get_name() == "watch of pods"]
        watch.cancel()
        with pytest.raises(ExecutorUnavailableError, match="the watch of pods has ended"):
            await outcome
        assert await worker.health_problem() == "the watch of pods has ended"
        assert background_state().ended.is_set()
        assert "watch of pods" in background_state().end_reason


@pytest.mark.slow
async def test_a_watch_whose_other_side_is_gone_without_a_word_grows_stale_and_is_opened_again(
    api: KubernetesApi, tmp_path: Path
) -> None:
    times = {"kubernetes_watch_seconds": 1, "kubernetes_read_timeout_seconds": 4, "kubernetes_stale_seconds": 2.5}
    async with serving(api.answer, tmp_path) as config:
        with watch_proxy(config) as (proxy, proxied):
            async with executors(proxied, **times) as start_executor, asyncio.timeout(30):
                await (worker := start_executor()).ensure(ATTEMPT)
                await api.pod(JOB, state=RUNNING, log=LINE, phase="Running")
                outcome, was_read = started(worker)
                await was_read.wait()

                proxy.silence_watches()
                await api.pod(JOB, state=SUCCEEDED, log=LINE, phase="Succeeded")
                await until(lambda: staleness("pods") > 2.5)
                assert "has received nothing for" in str(await worker.health_problem())
                with pytest.raises(ExecutorUnavailableError, match="has received nothing for"):
                    await outcome

                await until(lambda: max(map(staleness, ("jobs", "pods", "events"))) < 2)
                again, _ = started(worker)
                assert await again == Finished(ok=True)
    assert staleness("pods") == 0, "a process that watches nothing has no stale watch"


def readable_pod(**changes: Any) -> Json:
    metadata = {"name": "p", "creationTimestamp": STAMP}
    return {"metadata": metadata, "spec": {"containers": [{"name": "builder"}]}} | changes


def test_a_pod_without_status_or_labels_is_one_that_has_not_started() -> None:
    pod = ObjectReader("pods", PodState.parse).read(readable_pod(status=None))
    assert (pod.phase, pod.job, pod.build_id, pod.exit_code) == ("Pending", "", "", None)


@pytest.mark.parametrize(
    ("parse", "raw"),
    [
        (PodState.parse, None),
        (PodState.parse, "text"),
        (PodState.parse, []),
        (PodState.parse, {}),
        (PodState.parse, readable_pod(metadata={"name": "p"})),
        (PodState.parse, readable_pod(metadata={"name": "p", "creationTimestamp": "9999-99-99T99:99:99Z"})),
        (PodState.parse, readable_pod(metadata={"name": "p", "creationTimestamp": STAMP, "labels": "text"})),
        (PodState.parse, readable_pod(spec={"containers": [{"name": "other"}]})),
        (PodState.parse, readable_pod(spec={"containers": [None]})),
        (PodState.parse, readable_pod(spec=None)),
        (PodState.parse, readable_pod(status={"containerStatuses": [{"name": "builder", "state": {"terminated": 7}}]})),
        (JobState.parse, STRANGE_JOB),
        (JobState.parse, {"metadata": {"name": "j", "uid": "u"}, "spec": {"template": []}}),
        (WarningEvent.parse, {"metadata": {"name": "e"}, "involvedObject": None}),
        (WarningEvent.parse, {"metadata": {"name": "e"}, "involvedObject": {"name": "x"}, "lastTimestamp": "soon"}),
    ],
)
def test_an_object_of_any_other_shape_is_unreadable_and_nothing_worse(parse: Any, raw: Any) -> None:
    reader = ObjectReader("pods", parse)
    count = unreadable("pods")
    with pytest.raises(UnreadableObjectError):
        reader.read(raw)
    assert reader.read_all([raw, raw]) == []
    assert unreadable("pods") == count + 3
