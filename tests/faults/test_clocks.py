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
from tests.support.skewed_stack import OFFSETS, SkewedStack, require_faketime

pytestmark = pytest.mark.usefixtures("nothing_is_left")

ABANDONED_SECONDS = 6.0
ENDED_SECONDS = 30.0
"""As long as with one clock: a build that needs no network, and a server."""


@pytest.fixture(scope="module")
def faults(forge: Forge, folder: Path) -> Iterator[Faults]:
    require_faketime()
    with running_stack(
        forge, folder, kind=SkewedStack, gateways=2, workers=2, build_slots=1, build_cancel_grace_seconds=1,
        abandoned_seconds=ABANDONED_SECONDS,
    ) as faults:  # fmt: skip
        yield faults


def test_each_process_shows_and_logs_how_far_its_clock_is_off_and_is_healthy(faults: Faults) -> None:
    for part, offset in OFFSETS.items():
        assert faults.stack.metric(part, "bindery_clock_offset_seconds") == pytest.approx(offset, abs=0.5)
        assert faults.stack.part_log(part).count("clock_offset") == 1
        with faults.stack.part_client(part) as client:
            assert client.get("/health").json()["ok"]


def times(faults: Faults, topic: str, *names: str) -> list[float]:
    """Return times of a stored build or launch."""
    body: dict[str, Any] = json.loads(faults.record(topic)["body"])
    return [body[name] for name in names]


def test_a_build_and_a_warm_launch_have_times_in_their_order(faults: Faults) -> None:
    repo = faults.slow_repo()
    before = time.time()
    cold = faults.launch_into_build(repo, gateway=0)
    repo.end_build()
    faults.assert_server_answers(cold.outcome(ENDED_SECONDS))
    warm = faults.stack.facade(repo.url, repo.sha, gateway=1)
    faults.assert_server_answers(warm.outcome(ENDED_SECONDS))
    assert "building" not in warm.phases
    after = time.time()

    (build_id,) = faults.build_ids(repo)
    build = times(faults, f"b:{build_id}", "created_at", "started_at", "finished_at")
    for following in (cold, warm):
        launch = times(faults, f"l:{following.launch_id}", "created_at", "finished_at")
        assert [before - 1, *launch, after + 1] == sorted([before - 1, *launch, after + 1])
    assert [before - 1, *build, after + 1] == sorted([before - 1, *build, after + 1])


def test_builds_that_wait_for_a_slot_wait_as_long_as_they_do_and_a_cancelled_one_ends(faults: Faults) -> None:
    running = [faults.slow_repo() for _ in range(2)]
    followings = [faults.launch_into_build(repo, gateway=n) for n, repo in enumerate(running)]
    queued = faults.slow_repo()
    began = time.monotonic()
    waiting = faults.stack.facade(queued.url, queued.sha, gateway=1)
    eventually(lambda: faults.build_ids(queued), "the queued build")

    def queue() -> dict[str, Any]:
        state: dict[str, Any] = faults.stack.client.get(f"{faults.stack.url}/api/v1/queue").json()
        return state

    eventually(lambda: queue()["depth"] == 1, "its place in the queue")
    assert 0 <= queue()["oldest_waiting_seconds"] <= time.monotonic() - began + 1

    reply = faults.stack.client.delete(f"{faults.stack.url}/api/v1/launches/{waiting.launch_id}")
    assert reply.is_success, reply.text
    assert waiting.outcome(10)["phase"] in {"cancelled", "failed"}
    for repo, following in zip(running, followings, strict=True):
        repo.end_build()
        faults.assert_server_answers(following.outcome(ENDED_SECONDS))


def test_a_launch_followed_elsewhere_is_not_abandoned_and_one_that_nobody_follows_is(faults: Faults) -> None:
    repo = faults.slow_repo()
    launch = faults.stack.create(f"{repo.url.replace('/', '%2F')}/{repo.sha}")
    elsewhere = faults.stack.follow(launch["launch_id"], gateway=1)
    elsewhere.until_message("line 20\n")
    began = time.monotonic()
    eventually(lambda: elsewhere.terminal or time.monotonic() - began > 2 * ABANDONED_SECONDS, "some time", 60)
    assert elsewhere.terminal is None
    elsewhere.close()
    closed = time.monotonic()
    eventually(lambda: faults.record(f"l:{launch['launch_id']}").get("final"), "the end of an abandoned launch", 60)
    assert ABANDONED_SECONDS - 2 < time.monotonic() - closed < ABANDONED_SECONDS + 5
