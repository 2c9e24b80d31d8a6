"""Each part killed with -9 while six launches stand at six moments: every one of them ends as its user expects."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.faults import Faults, running_stack
from tests.support.faults_moments import Moments
from tests.support.faults_under_way import assert_no_zombie
from tests.support.forge import Forge

pytestmark = [pytest.mark.long, pytest.mark.timeout(400), pytest.mark.usefixtures("nothing_is_left")]


@pytest.fixture(scope="module")
def faults(forge: Forge, folder: Path) -> Iterator[Faults]:
    """Two gateways and two workers; each worker has one slot, and each repository one seat."""
    with running_stack(forge, folder, workers=2, gateways=2, build_slots=1, seats_per_repo=1) as faults:
        yield faults


@pytest.mark.parametrize(
    "parts",
    [
        ["gateway"],
        ["gateway", "gateway-2"],
        ["resolver"],
        ["builder"],
        ["worker"],
        ["worker", "worker-2"],
        ["launcher"],
        ["redis"],
        ["gateway", "resolver", "builder", "worker", "launcher"],
    ],
    ids=" and ".join,
)
def test_killed_at_each_moment_of_a_launch(faults: Faults, parts: list[str]) -> None:
    moments = Moments(faults)
    pids = {part: faults.stack.kill(part) for part in parts}
    for part, pid in pids.items():
        faults.stack.until_replaced(part, pid)
    moments.resume_broken()
    moments.finish(loses_lines="redis" in parts)
    assert_no_zombie(faults)
