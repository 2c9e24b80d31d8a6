"""Two of each part whose clocks are ten seconds apart: nothing ends otherwise, earlier or later than with one clock."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.faults import Faults, running_stack
from tests.support.forge import Forge
from tests.support.polling import eventually
from tests.support.quick_jupyter import quick_jupyter_wheel
from tests.support.skewed_stack import OFFSETS, SkewedStack, require_faketime

ABANDONED_SECONDS = 6.0


@pytest.fixture(scope="module")
def skewed(forge: Forge, folder: Path) -> Iterator[Faults]:
    require_faketime()
    with running_stack(
        forge, folder, kind=SkewedStack, gateways=2, workers=2, build_slots=1, build_cancel_grace_seconds=1,
        abandoned_seconds=ABANDONED_SECONDS, base_packages=quick_jupyter_wheel(folder),
    ) as faults:  # fmt: skip
        yield faults


@pytest.fixture(autouse=True)
def _nothing_is_left(skewed: Faults) -> object:
    yield
    skewed.assert_nothing_is_left()


def test_each_process_shows_and_logs_how_far_its_clock_is_off_and_is_healthy(skewed: Faults) -> None:
    for part, offset in OFFSETS.items():
        assert skewed.stack.metric(part, "bindery_clock_offset_seconds") == pytest.approx(offset, abs=0.5)
        assert skewed.stack.part_log(part).count("clock_offset") == 1
        with skewed.stack.part_client(part) as client:
            assert client.get("/health").json()["ok"]


def times(skewed: Faults, topic: str, *names: str) -> list[float]:
    """Return times of a stored build or launch."""
    body: dict[str, Any] = json.loads(skewed.record(topic)["body"])
    return [body[name] for name in names]


def test_a_build_and_a_warm_launch_have_times_in_their_order(skewed: Faults) -> None:
    repo = skewed.slow_repo()
    before = time.time()
    cold = skewed.launch_into_build(repo, gateway=0)
    repo.end_build()
    skewed.assert_server_answers(cold.outcome())
    warm = skewed.stack.facade(repo.url, repo.sha, gateway=1)
    skewed.assert_server_answers(warm.outcome())
    assert "building" not in warm.phases
    after = time.time()

    (build_id,) = skewed.build_ids(repo)
    build = times(skewed, f"b:{build_id}", "created_at", "started_at", "finished_at")
    for following in (cold, warm):
        launch = times(skewed, f"l:{following.launch_id}", "created_at", "finished_at")
        assert [before - 1, *launch, after + 1] == sorted([before - 1, *launch, after + 1])
    assert [before - 1, *build, after + 1] == sorted([before - 1, *build, after + 1])


def test_builds_that_wait_for_a_slot_wait_as_long_as_they_do_and_a_cancelled_one_ends(skewed: Faults) -> None:
    running = [skewed.slow_repo() for _ in range(2)]
    followings = [skewed.launch_into_build(repo, gateway=n) for n, repo in enumerate(running)]
    queued = skewed.slow_repo()
    began = time.monotonic()
    waiting = skewed.stack.facade(queued.url, queued.sha, gateway=1)
    eventually(lambda: skewed.build_ids(queued), "the queued build")

    def queue() -> dict[str, Any]:
        state: dict[str, Any] = skewed.stack.client.get(f"{skewed.stack.url}/api/v1/queue").json()
        return state

    eventually(lambda: queue()["depth"] == 1, "its place in the queue")
    assert 0 <= queue()["oldest_waiting_seconds"] <= time.monotonic() - began + 1

    reply = skewed.stack.client.delete(f"{skewed.stack.url}/api/v1/launches/{waiting.launch_id}")
    assert reply.is_success, reply.text
    assert waiting.outcome(10)["phase"] in {"cancelled", "failed"}
    for repo, following in zip(running, followings, strict=True):
        repo.end_build()
        skewed.assert_server_answers(following.outcome())


def test_a_launch_followed_elsewhere_is_not_abandoned_and_one_that_nobody_follows_is(skewed: Faults) -> None:
    repo = skewed.slow_repo()
    launch = skewed.stack.create(f"{repo.url.replace('/', '%2F')}/{repo.sha}")
    elsewhere = skewed.stack.follow(launch["launch_id"], gateway=1)
    elsewhere.until_message("line 20\n")
    began = time.monotonic()
    eventually(lambda: elsewhere.terminal or time.monotonic() - began > 2 * ABANDONED_SECONDS, "some time", 60)
    assert elsewhere.terminal is None
    elsewhere.close()
    closed = time.monotonic()
    eventually(lambda: skewed.record(f"l:{launch['launch_id']}").get("final"), "the end of an abandoned launch", 60)
    assert ABANDONED_SECONDS - 2 < time.monotonic() - closed < ABANDONED_SECONDS + 5
