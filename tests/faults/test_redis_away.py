"""Redis killed with -9, and emptied: launches end right, and running work goes on."""

import pytest

from tests.support.faults import Faults
from tests.support.polling import eventually

pytestmark = pytest.mark.usefixtures("nothing_is_left")


def test_redis_killed_in_mid_build_the_launch_ends_right_and_no_line_is_told_twice(faults: Faults) -> None:
    repo = faults.slow_repo()
    following = faults.launch_into_build(repo)
    pid = faults.stack.kill("redis")
    faults.stack.until_replaced("redis", pid)
    events_before = len(following.events)
    eventually(lambda: len(following.events) > events_before + 20, "lines after the new Redis")
    repo.end_build()
    faults.assert_server_answers(following.outcome())
    repo.assert_no_line_twice(following)
    if repo.lines(following) != list(range(1, repo.lines(following)[-1] + 1)):
        assert "lines are missing here" in following.text
    assert len(faults.build_ids(repo)) == 1
    assert repo.fetches == 1


def test_redis_killed_in_mid_start_the_launch_ends_with_one_server(faults: Faults) -> None:
    repo = faults.slow_repo(holds_build=False, holds_server=True)
    before = set(faults.stack.hub_users())
    following = faults.stack.facade(repo.url, repo.sha)
    repo.until_server_starts()
    pid = faults.stack.kill("redis")
    faults.stack.until_replaced("redis", pid)
    repo.start_server()
    faults.assert_ready_with_one_server(following, before)


def test_redis_killed_while_the_link_is_resolved_the_launch_ends_right(faults: Faults) -> None:
    repo = faults.slow_repo(holds_build=False)
    before = set(faults.stack.hub_users())
    with faults.stack.paused("resolver"):
        following = faults.stack.facade(repo.url, "main")
        eventually(lambda: following.status, "the head of the stream")
        pid = faults.stack.kill("redis")
        faults.stack.until_replaced("redis", pid)
    faults.assert_ready_with_one_server(following, before)


def test_redis_emptied_while_a_server_runs_it_goes_on_and_is_left_to_the_culler(faults: Faults) -> None:
    repo = faults.slow_repo(holds_build=False)
    ready = faults.stack.facade(repo.url, repo.sha).outcome()
    users = faults.stack.hub_users()
    faults.empty_redis()
    eventually(lambda: faults.stack.metric("launcher", "bindery_servers_without_record") == 1, "the reaper")
    faults.until_reaper_is_armed()
    faults.assert_server_answers(ready)
    assert faults.stack.hub_users() == users
    faults.assert_server_answers(faults.stack.facade(repo.url, repo.sha).outcome())
    assert set(users) < set(faults.stack.hub_users())


def test_redis_emptied_in_mid_build_the_build_goes_on_and_every_line_is_told_once(faults: Faults) -> None:
    repo = faults.slow_repo()
    before = set(faults.stack.hub_users())
    following = faults.launch_into_build(repo)
    build_ids = faults.build_ids(repo)
    faults.empty_redis()
    events_before = len(following.events)
    eventually(lambda: len(following.events) > events_before + 20, "lines after the emptying")
    eventually(lambda: faults.is_current(build_ids[0]), "the worker telling of its build again")
    another = faults.stack.facade(repo.url, repo.sha)
    another.until_message("line 20\n")
    repo.end_build()
    another.outcome()
    faults.assert_server_answers(following.outcome())
    repo.assert_every_line_once(following)
    assert len(set(faults.stack.hub_users()) - before) == 2
    assert faults.build_ids(repo) == build_ids
    assert repo.fetches == 1


def test_redis_emptied_while_a_build_is_silent_nothing_is_built_beside_it(faults: Faults) -> None:
    repo = faults.slow_repo(is_silent=True)
    before = set(faults.stack.hub_users())
    following = faults.launch_into_build(repo)
    build_ids = faults.build_ids(repo)
    faults.empty_redis()
    another = faults.stack.facade(repo.url, repo.sha)  # most likely before the worker has told of its build again
    another.until_message("line 20\n")
    eventually(lambda: faults.is_current(build_ids[0]), "the worker telling of its build again")
    repo.end_build()
    another.outcome()
    faults.assert_server_answers(following.outcome())
    repo.assert_every_line_once(following)
    repo.assert_every_line_once(another)
    assert len(set(faults.stack.hub_users()) - before) == 2
    assert faults.build_ids(repo) == build_ids
    assert repo.fetches == 1


def test_redis_emptied_while_a_build_is_silent_and_its_worker_dead_the_launch_ends_right(faults: Faults) -> None:
    repo = faults.slow_repo()
    before = set(faults.stack.hub_users())
    following = faults.launch_into_build(repo)
    pid = faults.stack.kill("worker")
    faults.empty_redis()
    faults.stack.until_replaced("worker", pid)
    repo.end_build()
    faults.assert_ready_with_one_server(following, before)
    repo.assert_no_line_twice(following)


def test_redis_emptied_in_mid_start_the_launch_ends_with_one_server(faults: Faults) -> None:
    repo = faults.slow_repo(holds_build=False, holds_server=True)
    before = set(faults.stack.hub_users())
    following = faults.stack.facade(repo.url, repo.sha)
    repo.until_server_starts()
    faults.empty_redis()
    repo.start_server()
    faults.assert_ready_with_one_server(following, before)
