"""Redis killed with -9, and emptied: launches end right, and running work goes on."""

import pytest

from tests.support.faults import Faults
from tests.support.polling import eventually


@pytest.fixture(autouse=True)
def _nothing_is_left(one: Faults) -> object:
    yield
    one.assert_nothing_is_left()


def test_redis_killed_in_mid_build_the_launch_ends_right_and_no_line_is_told_twice(one: Faults) -> None:
    repo = one.slow_repo()
    following = one.launch_into_build(repo)
    pid = one.stack.kill("redis")
    one.stack.until_replaced("redis", pid)
    told = len(following.events)
    eventually(lambda: len(following.events) > told + 20, "lines after the new Redis")
    repo.end_build()
    one.assert_server_answers(following.outcome())
    repo.assert_no_line_twice(following)
    if repo.lines(following) != list(range(1, repo.lines(following)[-1] + 1)):
        assert "lines are missing here" in following.text
    assert len(one.build_ids(repo)) == 1
    assert repo.fetches == 1


def test_redis_killed_in_mid_start_the_launch_ends_with_one_server(one: Faults) -> None:
    repo = one.slow_repo(holds_build=False, holds_server=True)
    before = set(one.stack.hub_users())
    following = one.stack.facade(repo.url, repo.sha)
    repo.until_server_starts()
    pid = one.stack.kill("redis")
    one.stack.until_replaced("redis", pid)
    repo.start_server()
    one.assert_ready_with_one_server(following, before)


def test_redis_killed_while_the_link_is_resolved_the_launch_ends_right(one: Faults) -> None:
    repo = one.slow_repo(holds_build=False)
    before = set(one.stack.hub_users())
    with one.stack.paused("resolver"):
        following = one.stack.facade(repo.url, "main")
        eventually(lambda: following.status, "the head of the stream")
        pid = one.stack.kill("redis")
        one.stack.until_replaced("redis", pid)
    one.assert_ready_with_one_server(following, before)


def test_redis_emptied_while_a_server_runs_it_goes_on_and_is_left_to_the_culler(one: Faults) -> None:
    repo = one.slow_repo(holds_build=False)
    ready = one.stack.facade(repo.url, repo.sha).outcome()
    users = one.stack.hub_users()
    one.empty_redis()
    eventually(lambda: one.stack.metric("launcher", "bindery_servers_without_record") == 1, "the reaper")
    one.until_reaper_is_armed()
    one.assert_server_answers(ready)
    assert one.stack.hub_users() == users
    one.assert_server_answers(one.stack.facade(repo.url, repo.sha).outcome())
    assert set(users) < set(one.stack.hub_users())


def test_redis_emptied_in_mid_build_the_build_goes_on_and_every_line_is_told_once(one: Faults) -> None:
    repo = one.slow_repo()
    before = set(one.stack.hub_users())
    following = one.launch_into_build(repo)
    build_ids = one.build_ids(repo)
    one.empty_redis()
    told = len(following.events)
    eventually(lambda: len(following.events) > told + 20, "lines after the emptying")
    eventually(lambda: one.is_current(build_ids[0]), "the worker telling of its build again")
    another = one.stack.facade(repo.url, repo.sha)
    another.until_message("line 20\n")
    repo.end_build()
    another.outcome()
    one.assert_server_answers(following.outcome())
    repo.assert_every_line_once(following)
    assert len(set(one.stack.hub_users()) - before) == 2
    assert one.build_ids(repo) == build_ids
    assert repo.fetches == 1


def test_redis_emptied_while_a_build_is_silent_nothing_is_built_beside_it(one: Faults) -> None:
    repo = one.slow_repo(is_silent=True)
    before = set(one.stack.hub_users())
    following = one.launch_into_build(repo)
    build_ids = one.build_ids(repo)
    one.empty_redis()
    another = one.stack.facade(repo.url, repo.sha)  # most likely before the worker has told of its build again
    another.until_message("line 20\n")
    eventually(lambda: one.is_current(build_ids[0]), "the worker telling of its build again")
    repo.end_build()
    another.outcome()
    one.assert_server_answers(following.outcome())
    repo.assert_every_line_once(following)
    repo.assert_every_line_once(another)
    assert len(set(one.stack.hub_users()) - before) == 2
    assert one.build_ids(repo) == build_ids
    assert repo.fetches == 1


def test_redis_emptied_while_a_build_is_silent_and_its_worker_dead_the_launch_ends_right(one: Faults) -> None:
    repo = one.slow_repo()
    before = set(one.stack.hub_users())
    following = one.launch_into_build(repo)
    pid = one.stack.kill("worker")
    one.empty_redis()
    one.stack.until_replaced("worker", pid)
    repo.end_build()
    one.assert_ready_with_one_server(following, before)
    repo.assert_no_line_twice(following)


def test_redis_emptied_in_mid_start_the_launch_ends_with_one_server(one: Faults) -> None:
    repo = one.slow_repo(holds_build=False, holds_server=True)
    before = set(one.stack.hub_users())
    following = one.stack.facade(repo.url, repo.sha)
    repo.until_server_starts()
    one.empty_redis()
    repo.start_server()
    one.assert_ready_with_one_server(following, before)
