"""A record, or a cached answer, is damaged by hand while its owner is killed: an end within a bound, nothing left."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.faults import Faults, running_stack
from tests.support.forge import Forge
from tests.support.polling import eventually

pytestmark = pytest.mark.usefixtures("nothing_is_left")

RENEW_SECONDS = 1.0
"""A record that can't be read is offered again after two renewals."""
BOUND_SECONDS = 30.0
"""A lease that runs out, five adoptions of 2 to 3 s, and the sweeps between them."""
ENDED_SECONDS = 60.0
"""A build or a start without faults, or a launch that is told of what has ended before."""


@pytest.fixture(scope="module")
def faults(forge: Forge, folder: Path) -> Iterator[Faults]:
    """One of each part."""
    with running_stack(forge, folder, lease_renew_seconds=RENEW_SECONDS) as faults:
        yield faults


def damage(faults: Faults, topic: str) -> None:
    """Cut the body of a record off."""
    with closing(faults.stack.redis()) as redis:
        key = faults.key(topic)
        body = redis.hget(key, "body")
        redis.hset(key, "body", body[: len(body) // 2])


def until_ended(faults: Faults, topic: str) -> None:
    """Wait until a record has ended as an error, and check that nobody owns it."""
    eventually(lambda: faults.record(topic).get("final") == "1", "an end of the record", BOUND_SECONDS)
    record = faults.record(topic)
    assert (record["state"], record["owner"], record["adoptions"]) == ("failed", "", "5")


def test_a_launch_that_no_gateway_can_read_ends_as_an_error_and_others_go_on(faults: Faults) -> None:
    repo = faults.slow_repo()
    following = faults.launch_into_build(repo)
    launch_id = following.launch_id
    pid = faults.stack.kill("gateway")
    damage(faults, f"l:{launch_id}")
    faults.stack.until_replaced("gateway", pid)

    other = faults.slow_repo(holds_build=False)
    faults.assert_server_answers(faults.stack.facade(other.url, other.sha).outcome(ENDED_SECONDS))

    until_ended(faults, f"l:{launch_id}")
    faults.resume(following)
    outcome = following.outcome(ENDED_SECONDS)
    assert outcome["phase"] == "failed"
    assert "can't read what is recorded" in outcome["message"]
    url = f"{faults.stack.url}/api/v1/launches/{launch_id}"
    for reply in (faults.stack.client.get(url), faults.stack.client.delete(url)):
        assert (reply.status_code, reply.json()["code"]) == (500, "record_unreadable")
    assert faults.stack.metric("gateway", "bindery_records_unworkable_total", 'kind="l"') == 1


def test_a_build_that_no_worker_can_read_ends_and_its_launch_has_it_built_again(faults: Faults) -> None:
    repo = faults.slow_repo()
    following = faults.launch_into_build(repo)
    (build_id,) = faults.build_ids(repo)
    pid = faults.stack.kill("worker")
    damage(faults, f"b:{build_id}")
    faults.stack.until_replaced("worker", pid)

    until_ended(faults, f"b:{build_id}")
    eventually(lambda: len(faults.build_ids(repo)) == 2, "another attempt")
    reply = faults.stack.client.get(f"{faults.stack.url}/api/v1/builds/{build_id}")
    assert (reply.status_code, reply.json()["code"]) == (500, "record_unreadable")
    # The execution of the first attempt is stopped: nobody reads its output any more.
    eventually(lambda: f"build {build_id}" not in faults.stack.sessions(), "an end of the first execution", 60)

    repo.end_build()
    faults.assert_server_answers(following.outcome(ENDED_SECONDS))


def test_a_start_that_no_launcher_can_read_ends_its_launch_and_frees_its_seat(faults: Faults) -> None:
    repo = faults.slow_repo(holds_build=False, holds_server=True)
    following = faults.stack.facade(repo.url, repo.sha)
    repo.until_server_starts()
    server_id = faults.record(f"l:{following.launch_id}")["body"].partition('"server_id":"')[2].partition('"')[0]
    pid = faults.stack.kill("launcher")
    damage(faults, f"s:{server_id}")
    faults.stack.until_replaced("launcher", pid)

    until_ended(faults, f"s:{server_id}")
    outcome = following.outcome(ENDED_SECONDS)
    assert (outcome["phase"], outcome["code"]) == ("failed", "record_unreadable")


def test_a_link_whose_cached_answers_are_damaged_is_launched_as_if_there_were_none(faults: Faults) -> None:
    repo = faults.slow_repo(holds_build=False)
    faults.assert_server_answers(faults.stack.facade(repo.url, repo.sha).outcome(ENDED_SECONDS))
    with closing(faults.stack.redis()) as redis:
        keys = redis.keys("*:fact:*")
        before = {key: redis.get(key) for key in keys}
        assert keys
        for key, value in before.items():
            redis.set(key, value.partition(b" ")[0] + b" {", ex=3600)

    faults.assert_server_answers(faults.stack.facade(repo.url, repo.sha).outcome(ENDED_SECONDS))
    assert faults.stack.metric("gateway", "bindery_cached_answers_unreadable_total") > 0
    with closing(faults.stack.redis()) as redis:
        written_again = [key for key in keys if redis.get(key).endswith(b"}")]
    assert written_again
    assert len(faults.build_ids(repo)) == 1
