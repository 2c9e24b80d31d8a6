"""Each part of `make up` killed with -9 while its stage is in flight."""

import contextlib
import signal
import threading
import time

import httpx
import pytest

from tests.support.faults import Faults
from tests.support.forge import Fault
from tests.support.polling import eventually


@pytest.fixture(autouse=True)
def _nothing_is_left(one: Faults) -> object:
    yield
    one.assert_nothing_is_left()


def test_gateway_killed_in_mid_build_the_launch_goes_on_and_a_resumed_stream_has_every_line_once(one: Faults) -> None:
    repo = one.slow_repo()
    following = one.launch_into_build(repo)
    pid = one.stack.kill("gateway")
    eventually(lambda: following.broke, "the broken stream")
    one.stack.until_replaced("gateway", pid)
    one.resume(following)
    repo.end_build()
    one.assert_server_answers(following.outcome())
    assert repo.assert_every_line_once(following) > 20
    assert len(one.build_ids(repo)) == 1
    assert repo.fetches == 1


def test_worker_killed_in_mid_build_the_build_is_adopted_and_goes_on(one: Faults) -> None:
    repo = one.slow_repo()
    following = one.launch_into_build(repo)
    (build_id,) = one.build_ids(repo)
    owner = one.owner(f"b:{build_id}")
    sessions = one.stack.sessions()
    killed = time.monotonic()
    one.stack.kill("worker")
    eventually(lambda: one.record(f"b:{build_id}")["owner"] not in {"", owner}, "an adoption", 15)
    print(f"adopted after {time.monotonic() - killed:.1f} s")
    assert one.stack.sessions() == sessions
    repo.end_build()
    one.assert_server_answers(following.outcome())
    repo.assert_every_line_once(following)
    assert one.build_ids(repo) == [build_id]
    assert repo.fetches == 1


def test_build_killed_itself_is_run_again_in_the_same_attempt_and_the_log_says_so(one: Faults) -> None:
    repo = one.slow_repo()
    following = one.launch_into_build(repo)
    (build_id,) = one.build_ids(repo)
    one.stack.kill_session(f"build {build_id}")
    following.until_message("is run again")
    repo.end_build()
    one.assert_server_answers(following.outcome())
    assert one.build_ids(repo) == [build_id]
    assert repo.fetches == 2


def test_build_killed_each_time_ends_the_launch_as_lost(one: Faults) -> None:
    repo = one.slow_repo()
    following = one.launch_into_build(repo)
    killed: list[int] = []
    while following.terminal is None:
        for what in one.stack.sessions():
            with contextlib.suppress(ProcessLookupError, ValueError):
                killed.append(one.stack.kill_session(what))
        threading.Event().wait(0.1)
    outcome = following.outcome()
    assert (outcome["phase"], outcome["code"]) == ("failed", "build_lost")
    attempts = len(one.build_ids(repo))
    assert attempts <= len(set(killed)) <= 2 * attempts


def test_launcher_killed_in_mid_start_the_server_starts_once(one: Faults) -> None:
    repo = one.slow_repo(holds_build=False, holds_server=True)
    before = set(one.stack.hub_users())
    following = one.stack.facade(repo.url, repo.sha)
    repo.until_server_starts()
    pid = one.stack.kill("launcher")
    one.stack.until_replaced("launcher", pid)
    repo.start_server()
    one.assert_ready_with_one_server(following, before)


def test_a_link_is_resolved_again_when_its_resolver_is_killed(one: Faults) -> None:
    repo = one.slow_repo(holds_build=False)
    before = set(one.stack.hub_users())
    hold = threading.Event()
    one.forge.git_fault = Fault(hold=hold)
    asked = len(one.forge.requests)
    following = one.stack.facade(repo.url, "main")
    eventually(lambda: len(one.forge.requests) > asked, "a question to the forge")
    one.stack.kill("resolver")
    one.forge.git_fault = None
    hold.set()
    one.assert_ready_with_one_server(following, before)


def test_hub_killed_in_mid_start_the_server_starts_once(one: Faults) -> None:
    repo = one.slow_repo(holds_build=False, holds_server=True)
    before = set(one.stack.hub_users())
    following = one.stack.facade(repo.url, repo.sha)
    repo.until_server_starts()
    pid = one.stack.kill("hub")
    one.stack.until_replaced("hub", pid)
    repo.start_server()
    one.assert_ready_with_one_server(following, before)


def test_builder_api_killed_while_it_is_asked_the_launch_goes_on(one: Faults) -> None:
    repo = one.slow_repo()
    with one.stack.paused("builder") as pid:
        following = one.stack.facade(repo.url, repo.sha)
        eventually(lambda: following.status, "the head of the stream")
        one.stack.kill("builder")
    one.stack.until_replaced("builder", pid)
    repo.end_build()
    one.assert_server_answers(following.outcome())
    repo.assert_every_line_once(following)
    assert len(one.build_ids(repo)) == 1


def test_proxy_killed_a_running_server_is_reached_again(one: Faults) -> None:
    repo = one.slow_repo(holds_build=False)
    ready = one.stack.facade(repo.url, repo.sha).outcome()
    one.assert_server_answers(ready)
    pid = one.stack.kill("proxy")
    one.stack.until_replaced("proxy", pid)

    def answers() -> bool:
        try:
            return httpx.get(f"{ready['url']}api?token={ready['token']}", trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    eventually(answers, "the server through the new proxy")


def test_worker_ended_by_sigterm_hands_its_builds_over_at_once(one: Faults) -> None:
    repo = one.slow_repo()
    following = one.launch_into_build(repo)
    (build_id,) = one.build_ids(repo)
    owner = one.owner(f"b:{build_id}")
    pid = one.stack.signal("worker", signal.SIGTERM)
    eventually(lambda: one.record(f"b:{build_id}")["owner"] != owner, "the worker letting go", 4)
    one.stack.until_replaced("worker", pid)
    eventually(lambda: one.record(f"b:{build_id}")["owner"] not in {"", owner}, "an adoption", 10)
    repo.end_build()
    one.assert_server_answers(following.outcome())
    repo.assert_every_line_once(following)
    assert one.build_ids(repo) == [build_id]
