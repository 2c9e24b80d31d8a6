"""Two workers and two gateways: one is killed, or paused for a while, and the other goes on."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.faults import Faults, running_stack
from tests.support.forge import Forge
from tests.support.polling import eventually

pytestmark = pytest.mark.usefixtures("nothing_is_left")

PAUSE_SECONDS = 12.0
"""Two leases: by then the process counts as dead, and another has its work."""


@pytest.fixture(scope="module")
def faults(forge: Forge, folder: Path) -> Iterator[Faults]:
    """Two workers and two gateways."""
    with running_stack(forge, folder, workers=2, gateways=2) as faults:
        yield faults


def test_gateway_killed_the_stream_is_resumed_at_the_other_one_at_once(faults: Faults) -> None:
    repo = faults.slow_repo()
    following = faults.launch_into_build(repo)
    pid = faults.stack.kill("gateway")
    eventually(lambda: following.is_broken, "the broken stream")
    faults.resume(following, gateway=1)
    repo.end_build()
    faults.assert_server_answers(following.outcome())
    repo.assert_every_line_once(following)
    assert len(faults.build_ids(repo)) == 1
    faults.stack.until_replaced("gateway", pid)


def test_worker_killed_the_other_adopts_its_build_and_nothing_is_built_twice(faults: Faults) -> None:
    repo = faults.slow_repo()
    following = faults.launch_into_build(repo)
    (build_id,) = faults.build_ids(repo)
    owner = faults.owner(f"b:{build_id}")
    sessions = faults.stack.sessions()
    killed_at = time.monotonic()
    faults.stack.kill(faults.part_of(owner))
    eventually(lambda: faults.record(f"b:{build_id}")["owner"] not in {"", owner}, "an adoption", 15)
    print(f"worker killed: adopted after {time.monotonic() - killed_at:.1f} s")
    assert faults.stack.sessions() == sessions
    repo.end_build()
    faults.assert_server_answers(following.outcome())
    repo.assert_every_line_once(following)
    assert faults.build_ids(repo) == [build_id]
    assert repo.fetches == 1


def test_a_paused_worker_is_replaced_and_fenced_when_it_resumes(faults: Faults) -> None:
    repo = faults.slow_repo()
    following = faults.launch_into_build(repo)
    (build_id,) = faults.build_ids(repo)
    owner = faults.owner(f"b:{build_id}")
    part = faults.part_of(owner)
    fenced_before = faults.stack.metric(part, "bindery_fenced_total", 'kind="b"')
    with faults.stack.paused(part):
        paused_at = time.monotonic()
        eventually(lambda: faults.record(f"b:{build_id}")["owner"] not in {"", owner}, "an adoption", 15)
        print(f"worker paused: adopted after {time.monotonic() - paused_at:.1f} s")
        events_before = len(following.events)
        eventually(lambda: len(following.events) > events_before + 20, "lines from the other worker")
        threading.Event().wait(PAUSE_SECONDS - (time.monotonic() - paused_at))
    eventually(
        lambda: faults.stack.metric(part, "bindery_fenced_total", 'kind="b"') > fenced_before,
        "the write that was refused",
    )
    repo.end_build()
    faults.assert_server_answers(following.outcome())
    repo.assert_every_line_once(following)
    assert faults.build_ids(repo) == [build_id]
    assert repo.fetches == 1


def test_a_paused_gateway_is_replaced_and_fenced_when_it_resumes(faults: Faults) -> None:
    repo = faults.slow_repo()
    before = set(faults.stack.hub_users())
    following = faults.launch_into_build(repo, gateway=1)
    topic = f"l:{following.launch_id}"
    owner = faults.owner(topic)
    part = faults.part_of(owner)
    assert part == "gateway-2"
    fenced_before = faults.stack.metric(part, "bindery_fenced_total", 'kind="l"')
    with faults.stack.paused(part):
        paused_at = time.monotonic()
        eventually(lambda: faults.record(topic)["owner"] not in {"", owner}, "an adoption", 15)
        print(f"gateway paused: adopted after {time.monotonic() - paused_at:.1f} s")
        following.close()
        faults.resume(following, gateway=0)
        threading.Event().wait(PAUSE_SECONDS - (time.monotonic() - paused_at))
    eventually(
        lambda: faults.stack.metric(part, "bindery_fenced_total", 'kind="l"') > fenced_before,
        "the write that was refused",
    )
    repo.end_build()
    faults.assert_ready_with_one_server(following, before)
    repo.assert_every_line_once(following)
    assert len(faults.build_ids(repo)) == 1
