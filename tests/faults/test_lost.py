"""Records that Redis has lost, as by a failover: living owners write them again, followers of a dead one are told."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.faults import Faults, SlowRepo, running_stack
from tests.support.faults_under_way import LaunchesUnderWay, assert_no_zombie
from tests.support.forge import Forge
from tests.support.polling import eventually

pytestmark = pytest.mark.usefixtures("nothing_is_left")

RENEW_SECONDS = 1.0
RESTORED_SECONDS = 5.0
"""A renewal, the comparison that it starts, and as much again; nobody else writes to these records."""
CHECK_SECONDS = 2 * RENEW_SECONDS
LOST_SECONDS = 15.0
"""Three looks for a record, and half as much again."""
ENDED_SECONDS = 30.0


@pytest.fixture(scope="module")
def faults(forge: Forge, folder: Path) -> Iterator[Faults]:
    """Two gateways, and one of each other part."""
    with running_stack(
        forge, folder, gateways=2, lease_renew_seconds=RENEW_SECONDS, lost_check_seconds=CHECK_SECONDS
    ) as faults:
        yield faults


def lose(faults: Faults, topics: Iterable[str]) -> None:
    """Take records with their events out of Redis, as if their creation had not reached the next master."""
    with closing(faults.stack.redis()) as redis, redis.pipeline() as pipe:
        for topic in topics:
            owner = faults.owner(topic)
            pipe.delete(faults.key(topic), faults.key(topic).replace(":record", ":events"))
            pipe.srem(f"{faults.prefix}:owned:{owner}", topic)
        counts = pipe.execute()
    assert counts == [2, 1] * (len(counts) // 2), "not all of it was there"


def test_lost_records_of_living_owners_are_written_again_within_seconds(faults: Faults, warm: SlowRepo) -> None:
    launches = LaunchesUnderWay(faults, warm)
    owners = launches.before.owners
    lose(faults, [key.partition("{")[2].partition("}")[0] for key in owners])
    eventually(lambda: launches.snapshot().owners == owners, "all records, with their owners", RESTORED_SECONDS)
    launches.finish()
    launches.assert_hub_called_once()
    assert_no_zombie(faults)


def test_followers_of_a_launch_that_died_with_its_gateway_are_told_so_by_both_apis(faults: Faults) -> None:
    repo = faults.slow_repo()
    by_facade = faults.launch_into_build(repo)
    launch_id = by_facade.launch_id
    by_facade.close()
    faults.resume(by_facade, gateway=1)
    by_api = faults.stack.follow(launch_id, gateway=1)
    by_api.until_message("line 20\n")

    with faults.stack.paused("gateway") as pid:
        lose(faults, [f"l:{launch_id}"])
        faults.stack.kill("gateway")
    outcome = by_facade.outcome(LOST_SECONDS)
    assert (outcome["phase"], outcome["code"], outcome["status_code"]) == ("failed", "launch_lost", 500)
    outcome = by_api.outcome(LOST_SECONDS)
    assert (outcome["phase"], outcome["error"]["code"]) == ("failed", "launch_lost")

    faults.stack.until_replaced("gateway", pid)
    again = faults.stack.facade(repo.url, repo.sha, gateway=1)
    again.until_message("line 20\n")
    repo.end_build()
    faults.assert_server_answers(again.outcome(ENDED_SECONDS))
    repo.assert_every_line_once(again)
    assert len(faults.build_ids(repo)) == 1
