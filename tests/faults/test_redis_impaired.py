"""Redis refuses writes, or stands still, for seconds: no launch ends, nothing is done twice, no process is lost.

One stack for all of them, with the leases that are set by default. Each test ends with a look at the loops of every
process.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from deploy.local.installation import open_installation
from tests.support.faults import Faults, SlowRepo, running_stack
from tests.support.faults_under_way import LaunchesUnderWay, assert_no_zombie
from tests.support.forge import Forge
from tests.support.redis_faults import (
    busy_with_a_script,
    failing_snapshots,
    full_disk,
    out_of_memory,
    small_disk,
    wait,
    without_replicas,
)
from tests.support.stack import Stack

pytestmark = pytest.mark.usefixtures("nothing_is_left")

FAULT_SECONDS = 3.0
STALL_SECONDS = 4.6
DUE_MILLISECONDS = 4_250
"""A lease is renewed when it lasts for 4 s more; one that is due when Redis stops has run out when it goes on."""
DISK_BYTES = 32 * 2**20


@pytest.fixture(scope="module")
def faults(forge: Forge, folder: Path) -> Iterator[Faults]:
    """A stack whose Redis has a small disk of its own."""
    open_installation(folder / "data")  # `up` takes a folder that holds something only if it is its own
    with (
        small_disk(folder / "data" / "redis", size_bytes=DISK_BYTES),
        running_stack(forge, folder) as faults,
    ):
        yield faults


def check_writes_refused(
    faults: Faults, warm: SlowRepo, fault: Callable[[Stack], AbstractContextManager[None]]
) -> None:
    """Let launches run into a fault of three seconds."""
    launches = LaunchesUnderWay(faults, warm)
    with fault(faults.stack):
        launches.request_more()
        wait(FAULT_SECONDS)
    launches.assert_no_owner_changed()
    launches.finish()
    launches.assert_hub_called_once()
    assert_no_zombie(faults)


def test_writes_refused_without_a_replica_every_launch_ends_right(faults: Faults, warm: SlowRepo) -> None:
    check_writes_refused(faults, warm, without_replicas)


def test_writes_refused_after_a_failed_snapshot_every_launch_ends_right(faults: Faults, warm: SlowRepo) -> None:
    check_writes_refused(faults, warm, failing_snapshots)


def test_a_full_disk_under_redis_every_launch_ends_right(faults: Faults, warm: SlowRepo) -> None:
    check_writes_refused(faults, warm, full_disk)


@pytest.mark.long
def test_redis_out_of_memory_every_launch_ends_right(faults: Faults, warm: SlowRepo) -> None:
    check_writes_refused(faults, warm, out_of_memory)


@pytest.mark.long
def test_redis_busy_with_a_script_every_launch_ends_right(faults: Faults, warm: SlowRepo) -> None:
    check_writes_refused(faults, warm, busy_with_a_script)


def test_redis_stopped_until_a_lease_has_run_out_no_owner_changes(faults: Faults, warm: SlowRepo) -> None:
    launches = LaunchesUnderWay(faults, warm)
    launches.until_a_lease_is_due(DUE_MILLISECONDS)
    with faults.stack.paused("redis"):
        launches.request_more()
        wait(STALL_SECONDS)
    launches.until_requested_goes_on()
    launches.assert_no_owner_changed()
    launches.finish()
    launches.assert_hub_called_once()
    assert_no_zombie(faults)


def test_after_a_fault_what_killed_processes_owned_is_adopted(faults: Faults, warm: SlowRepo) -> None:
    launches = LaunchesUnderWay(faults, warm)
    with without_replicas(faults.stack):
        wait(FAULT_SECONDS)
    pids = {part: faults.stack.kill(part) for part in ("gateway", "worker", "launcher")}
    for part, pid in pids.items():
        faults.stack.until_replaced(part, pid)
    faults.resume(launches.building)
    for following in (launches.cancelled, launches.starting):  # which have nothing new to say before they end
        faults.resume(following, has_news=False)
    launches.finish()
    assert_no_zombie(faults)
