"""Two workers and two gateways: one is killed, or paused for a while, and the other goes on."""

import threading
import time

import pytest

from tests.support.faults import Faults
from tests.support.polling import eventually

PAUSE_SECONDS = 30.0


@pytest.fixture(autouse=True)
def _nothing_is_left(two: Faults) -> object:
    yield
    two.assert_nothing_is_left()


def test_gateway_killed_the_stream_is_resumed_at_the_other_one_at_once(two: Faults) -> None:
    repo = two.slow_repo()
    following = two.launch_into_build(repo)
    pid = two.stack.kill("gateway")
    eventually(lambda: following.broke, "the broken stream")
    two.resume(following, gateway=1)
    repo.end_build()
    two.assert_server_answers(following.outcome())
    repo.assert_every_line_once(following)
    assert len(two.build_ids(repo)) == 1
    two.stack.until_replaced("gateway", pid)


def test_worker_killed_the_other_adopts_its_build_and_nothing_is_built_twice(two: Faults) -> None:
    repo = two.slow_repo()
    following = two.launch_into_build(repo)
    (build_id,) = two.build_ids(repo)
    owner = two.owner(f"b:{build_id}")
    sessions = two.stack.sessions()
    killed = time.monotonic()
    two.stack.kill(two.part_of(owner))
    eventually(lambda: two.record(f"b:{build_id}")["owner"] not in {"", owner}, "an adoption", 15)
    print(f"worker killed: adopted after {time.monotonic() - killed:.1f} s")
    assert two.stack.sessions() == sessions
    repo.end_build()
    two.assert_server_answers(following.outcome())
    repo.assert_every_line_once(following)
    assert two.build_ids(repo) == [build_id]
    assert repo.fetches == 1


def test_a_paused_worker_is_replaced_and_fenced_when_it_resumes(two: Faults) -> None:
    repo = two.slow_repo()
    following = two.launch_into_build(repo)
    (build_id,) = two.build_ids(repo)
    owner = two.owner(f"b:{build_id}")
    part = two.part_of(owner)
    fenced = two.stack.metric(part, "bindery_fenced_total", 'kind="b"')
    with two.stack.paused(part):
        paused = time.monotonic()
        eventually(lambda: two.record(f"b:{build_id}")["owner"] not in {"", owner}, "an adoption", 15)
        print(f"worker paused: adopted after {time.monotonic() - paused:.1f} s")
        told = len(following.events)
        eventually(lambda: len(following.events) > told + 20, "lines from the other worker")
        threading.Event().wait(PAUSE_SECONDS - (time.monotonic() - paused))
    eventually(
        lambda: two.stack.metric(part, "bindery_fenced_total", 'kind="b"') > fenced, "the write that was refused"
    )
    repo.end_build()
    two.assert_server_answers(following.outcome())
    repo.assert_every_line_once(following)
    assert two.build_ids(repo) == [build_id]
    assert repo.fetches == 1


def test_a_paused_gateway_is_replaced_and_fenced_when_it_resumes(two: Faults) -> None:
    repo = two.slow_repo()
    before = set(two.stack.hub_users())
    following = two.launch_into_build(repo, gateway=1)
    topic = f"l:{following.launch_id}"
    owner = two.owner(topic)
    part = two.part_of(owner)
    assert part == "gateway-2"
    fenced = two.stack.metric(part, "bindery_fenced_total", 'kind="l"')
    with two.stack.paused(part):
        paused = time.monotonic()
        eventually(lambda: two.record(topic)["owner"] not in {"", owner}, "an adoption", 15)
        print(f"gateway paused: adopted after {time.monotonic() - paused:.1f} s")
        following.close()
        two.resume(following, gateway=0)
        threading.Event().wait(PAUSE_SECONDS - (time.monotonic() - paused))
    eventually(
        lambda: two.stack.metric(part, "bindery_fenced_total", 'kind="l"') > fenced, "the write that was refused"
    )
    repo.end_build()
    two.assert_ready_with_one_server(following, before)
    repo.assert_every_line_once(following)
    assert len(two.build_ids(repo)) == 1
