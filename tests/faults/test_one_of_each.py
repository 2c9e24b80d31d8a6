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

pytestmark = pytest.mark.usefixtures("nothing_is_left")


def test_gateway_killed_in_mid_build_the_launch_goes_on_and_a_resumed_stream_has_every_line_once(
    faults: Faults,
) -> None:
    repo = faults.slow_repo()
    following = faults.launch_into_build(repo)
    pid = faults.stack.kill("gateway")
    eventually(lambda: following.is_broken, "the broken stream")
    faults.stack.until_replaced("gateway", pid)
    faults.resume(following)
    repo.end_build()
    faults.assert_server_answers(following.outcome())
    assert repo.assert_every_line_once(following) > 20
    assert len(faults.build_ids(repo)) == 1
    assert repo.fetches == 1


def test_worker_killed_in_mid_build_the_build_is_adopted_and_goes_on(faults: Faults) -> None:
    repo = faults.slow_repo()
    following = faults.launch_into_build(repo)
    (build_id,) = faults.build_ids(repo)
    owner = faults.owner(f"b:{build_id}")
    sessions = faults.stack.sessions()
    killed_at = time.monotonic()
    faults.stack.kill("worker")
    eventually(lambda: faults.record(f"b:{build_id}")["owner"] not in {"", owner}, "an adoption", 15)
    print(f"adopted after {time.monotonic() - killed_at:.1f} s")
    assert faults.stack.sessions() == sessions
    repo.end_build()
    faults.assert_server_answers(following.outcome())
    repo.assert_every_line_once(following)
    assert faults.build_ids(repo) == [build_id]
    assert repo.fetches == 1


def test_build_killed_itself_is_run_again_in_the_same_attempt_and_the_log_says_so(faults: Faults) -> None:
    repo = faults.slow_repo()
    following = faults.launch_into_build(repo)
    (build_id,) = faults.build_ids(repo)
    faults.stack.kill_session(f"build {build_id}")
    following.until_message("is run again")
    repo.end_build()
    faults.assert_server_answers(following.outcome())
    assert faults.build_ids(repo) == [build_id]
    assert repo.fetches == 2


def test_build_killed_each_time_ends_the_launch_as_lost(faults: Faults) -> None:
    repo = faults.slow_repo()
    following = faults.launch_into_build(repo)
    killed_pids: list[int] = []
    while following.terminal is None:
        for session in faults.stack.sessions():
            with contextlib.suppress(ProcessLookupError, ValueError):
                killed_pids.append(faults.stack.kill_session(session))
        threading.Event().wait(0.1)
    outcome = following.outcome()
    assert (outcome["phase"], outcome["code"]) == ("failed", "build_lost")
    attempts = len(faults.build_ids(repo))
    assert attempts <= len(set(killed_pids)) <= 2 * attempts


def test_launcher_killed_in_mid_start_the_server_starts_once(faults: Faults) -> None:
    repo = faults.slow_repo(holds_build=False, holds_server=True)
    before = set(faults.stack.hub_users())
    following = faults.stack.facade(repo.url, repo.sha)
    repo.until_server_starts()
    pid = faults.stack.kill("launcher")
    faults.stack.until_replaced("launcher", pid)
    repo.start_server()
    faults.assert_ready_with_one_server(following, before)


def test_a_link_is_resolved_again_when_its_resolver_is_killed(faults: Faults) -> None:
    repo = faults.slow_repo(holds_build=False)
    before = set(faults.stack.hub_users())
    hold = threading.Event()
    faults.forge.git_fault = Fault(hold=hold)
    requests_before = len(faults.forge.requests)
    following = faults.stack.facade(repo.url, "main")
    eventually(lambda: len(faults.forge.requests) > requests_before, "a question to the forge")
    faults.stack.kill("resolver")
    faults.forge.git_fault = None
    hold.set()
    faults.assert_ready_with_one_server(following, before)


def test_hub_killed_in_mid_start_the_server_starts_once(faults: Faults) -> None:
    repo = faults.slow_repo(holds_build=False, holds_server=True)
    before = set(faults.stack.hub_users())
    following = faults.stack.facade(repo.url, repo.sha)
    repo.until_server_starts()
    pid = faults.stack.kill("hub")
    faults.stack.until_replaced("hub", pid)
    repo.start_server()
    faults.assert_ready_with_one_server(following, before)


def test_builder_api_killed_while_it_is_asked_the_launch_goes_on(faults: Faults) -> None:
    repo = faults.slow_repo()
    with faults.stack.paused("builder") as pid:
        following = faults.stack.facade(repo.url, repo.sha)
        eventually(lambda: following.status, "the head of the stream")
        faults.stack.kill("builder")
    faults.stack.until_replaced("builder", pid)
    repo.end_build()
    faults.assert_server_answers(following.outcome())
    repo.assert_every_line_once(following)
    assert len(faults.build_ids(repo)) == 1


def test_proxy_killed_a_running_server_is_reached_again(faults: Faults) -> None:
    repo = faults.slow_repo(holds_build=False)
    ready = faults.stack.facade(repo.url, repo.sha).outcome()
    faults.assert_server_answers(ready)
    pid = faults.stack.kill("proxy")
    faults.stack.until_replaced("proxy", pid)

    def answers() -> bool:
        try:
            return httpx.get(f"{ready['url']}api?token={ready['token']}", trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    eventually(answers, "the server through the new proxy")


def test_worker_ended_by_sigterm_hands_its_builds_over_at_once(faults: Faults) -> None:
    repo = faults.slow_repo()
    following = faults.launch_into_build(repo)
    (build_id,) = faults.build_ids(repo)
    owner = faults.owner(f"b:{build_id}")
    pid = faults.stack.signal("worker", signal.SIGTERM)
    eventually(lambda: faults.record(f"b:{build_id}")["owner"] != owner, "the worker letting go", 4)
    faults.stack.until_replaced("worker", pid)
    eventually(lambda: faults.record(f"b:{build_id}")["owner"] not in {"", owner}, "an adoption", 10)
    repo.end_build()
    faults.assert_server_answers(following.outcome())
    repo.assert_every_line_once(following)
    assert faults.build_ids(repo) == [build_id]
