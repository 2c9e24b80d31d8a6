"""Two releases on one Redis: the new one takes over part by part, then the old one, under launches of six kinds."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from deploy.local.components import component_name
from tests.support.faults import Faults, running_stack
from tests.support.faults_moments import Moments
from tests.support.faults_under_way import assert_no_zombie
from tests.support.forge import Forge
from tests.support.polling import eventually
from tests.support.upgrade_stack import (
    FIRSTS,
    KINDS,
    SECONDS,
    THIS,
    Release,
    UpgradeStack,
    choose,
    unpack_release_before,
)

pytestmark = [pytest.mark.long, pytest.mark.timeout(900), pytest.mark.usefixtures("nothing_is_left")]

JOB_KEYS_SECONDS = 90_000
"""A day, and what arq adds."""


@pytest.fixture(scope="module")
def before(folder: Path) -> Release:
    """The release before this one."""
    return unpack_release_before(folder / "before")


@pytest.fixture(scope="module")
def faults(forge: Forge, folder: Path, before: Release) -> Iterator[Faults]:
    """Two of each part that owns records, all of the release before."""
    for part in (*FIRSTS, *SECONDS):
        choose(folder / "data", part, before)
    with running_stack(
        forge, folder, kind=UpgradeStack, workers=2, gateways=2, build_slots=1, seats_per_repo=1
    ) as faults:
        yield faults


@pytest.fixture
def stack(faults: Faults) -> UpgradeStack:
    assert isinstance(faults.stack, UpgradeStack)
    return faults.stack


def assert_nothing_is_left(faults: Faults) -> None:
    """Check that nothing is left, but for what an earlier worker's jobs leave, which expires.

    A worker of the release before kept arq's keys of a job until its build had ended. When it ends or is killed before
    that, a worker of the same release would remove them; one of this release leaves them to arq's expiry of a day.
    """
    faults.forge.git_fault = None
    faults.end_all()
    with closing(faults.stack.redis()) as redis:
        for key in [key for kind in ("job", "retry", "in-progress") for key in redis.keys(f"arq:{kind}:*")]:
            assert 0 < redis.ttl(key) <= JOB_KEYS_SECONDS
            redis.delete(key)
    faults.assert_nothing_is_left()


@pytest.fixture
def nothing_is_left(faults: Faults) -> Iterator[None]:
    yield
    assert_nothing_is_left(faults)


def roll(faults: Faults, stack: UpgradeStack, release: Release, kinds: Sequence[str]) -> None:
    """Let a release take over one kind of parts after the other; the second of a kind begins, beside the first."""
    for kind in kinds:
        moments = Moments(faults)
        for part in (component_name(kind, 2), kind):
            if part in (*FIRSTS, *SECONDS):
                stack.run_release(release, part)
        moments.resume_broken()
        moments.finish(loses_lines=False)
        assert_nothing_is_left(faults)
    assert_no_zombie(faults)


def test_a_rolling_update_ends_each_launch_right_and_builds_nothing_twice(
    faults: Faults, stack: UpgradeStack, before: Release
) -> None:
    stack.run_release(before, *FIRSTS, *SECONDS)
    roll(faults, stack, THIS, KINDS)


def test_a_rollback_ends_each_launch_right_and_builds_nothing_twice(
    faults: Faults, stack: UpgradeStack, before: Release
) -> None:
    stack.run_release(THIS, *FIRSTS, *SECONDS)
    roll(faults, stack, before, KINDS[::-1])


@pytest.mark.parametrize("killed", [FIRSTS, SECONDS], ids=["the release before", "this release"])
def test_what_killed_processes_of_one_release_owned_the_other_takes_over(
    faults: Faults, stack: UpgradeStack, before: Release, killed: Sequence[str]
) -> None:
    stack.run_release(before, *FIRSTS)
    stack.run_release(THIS, *SECONDS)
    moments = Moments(faults)
    pids = {part: stack.kill(part) for part in killed}
    for part, pid in pids.items():
        stack.until_replaced(part, pid)
    if killed == FIRSTS:  # a gateway of the release before ends a stream that is resumed while its resolver is away
        eventually(lambda: is_healthy(stack, 0), "the gateway of the release before reaches all services")
    moments.resume_broken()
    moments.finish(loses_lines=False)
    assert_no_zombie(faults)


def is_healthy(stack: UpgradeStack, gateway: int) -> bool:
    """Return whether a gateway answers that it reaches all that it needs."""
    try:
        return stack.client.get(f"{stack.gateway_url(gateway)}/health").status_code == 200
    except httpx.HTTPError:
        return False
