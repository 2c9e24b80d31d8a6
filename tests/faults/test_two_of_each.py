"""Two workers and two gateways: one is killed, or paused for a while, and the other goes on."""

import threading
import time

import pytest

from tests.support.faults import Faults
from tests.support.polling import eventually

PAUSE_SECONDS = 30.0


@pytest.fixture(autouse=True)
def _nothing_is_left(doubled_faults: Faults) -> object:
    yield
    doubled_faults.assert_nothing_is_left()


def test_gateway_killed_the_stream_is_resumed_at_the_other_one_at_once(doubled_faults: Faults) -> None:
    repo = doubled_faults.slow_repo()
    following = doubled_faults.launch_into_build(repo)
    pid = doubled_faults.stack.kill("gateway")
    eventually(lambda: following.is_broken, "the broken stream")
    doubled_faults.resume(following, gateway=1)
    repo.end_build()
    doubled_faults.assert_server_answers(following.outcome())
    repo.assert_every_line_once(following)
    assert len(doubled_faults.build_ids(repo)) == 1
    doubled_faults.stack.until_replaced("gateway", pid)


def test_worker_killed_the_other_adopts_its_build_and_nothing_is_built_twice(doubled_faults: Faults) -> None:
    repo = doubled_faults.slow_repo()
    following = doubled_faults.launch_into_build(repo)
    (build_id,) = doubled_faults.build_ids(repo)
    owner = doubled_faults.owner(f"b:{build_id}")
    sessions = doubled_faults.stack.sessions()
    killed_at = time.monotonic()
    doubled_faults.stack.kill(doubled_faults.part_of(owner))
    eventually(lambda: doubled_faults.record(f"b:{build_id}")["owner"] not in {"", owner}, "an adoption", 15)
    print(f"worker killed: adopted after {time.monotonic() - killed_at:.1f} s")
    assert doubled_faults.stack.sessions() == sessions
    repo.end_build()
    doubled_faults.assert_server_answers(following.outcome())
    repo.assert_every_line_once(following)
    assert doubled_faults.build_ids(repo) == [build_id]
    assert repo.fetches == 1


def test_a_paused_worker_is_replaced_and_fenced_when_it_resumes(doubled_faults: Faults) -> None:
    repo = doubled_faults.slow_repo()
    following = doubled_faults.launch_into_build(repo)
    (build_id,) = doubled_faults.build_ids(repo)
    owner = doubled_faults.owner(f"b:{build_id}")
    part = doubled_faults.part_of(owner)
    fenced_before = doubled_faults.stack.metric(part, "bindery_fenced_total", 'kind="b"')
    with doubled_faults.stack.paused(part):
        paused_at = time.monotonic()
        eventually(lambda: doubled_faults.record(f"b:{build_id}")["owner"] not in {"", owner}, "an adoption", 15)
        print(f"worker paused: adopted after {time.monotonic() - paused_at:.1f} s")
        events_before = len(following.events)
        eventually(lambda: len(following.events) > events_before + 20, "lines from the other worker")
        threading.Event().wait(PAUSE_SECONDS - (time.monotonic() - paused_at))
    eventually(
        lambda: doubled_faults.stack.metric(part, "bindery_fenced_total", 'kind="b"') > fenced_before,
        "the write that was refused",
    )
    repo.end_build()
    doubled_faults.assert_server_answers(following.outcome())
    repo.assert_every_line_once(following)
    assert doubled_faults.build_ids(repo) == [build_id]
    assert repo.fetches == 1


def test_a_paused_gateway_is_replaced_and_fenced_when_it_resumes(doubled_faults: Faults) -> None:
    repo = doubled_faults.slow_repo()
    before = set(doubled_faults.stack.hub_users())
    following = doubled_faults.launch_into_build(repo, gateway=1)
    topic = f"l:{following.launch_id}"
    owner = doubled_faults.owner(topic)
    part = doubled_faults.part_of(owner)
    assert part == "gateway-2"
    fenced_before = doubled_faults.stack.metric(part, "bindery_fenced_total", 'kind="l"')
    with doubled_faults.stack.paused(part):
        paused_at = time.monotonic()
        eventually(lambda: doubled_faults.record(topic)["owner"] not in {"", owner}, "an adoption", 15)
        print(f"gateway paused: adopted after {time.monotonic() - paused_at:.1f} s")
        following.close()
        doubled_faults.resume(following, gateway=0)
        threading.Event().wait(PAUSE_SECONDS - (time.monotonic() - paused_at))
    eventually(
        lambda: doubled_faults.stack.metric(part, "bindery_fenced_total", 'kind="l"') > fenced_before,
        "the write that was refused",
    )
    repo.end_build()
    doubled_faults.assert_ready_with_one_server(following, before)
    repo.assert_every_line_once(following)
    assert len(doubled_faults.build_ids(repo)) == 1
