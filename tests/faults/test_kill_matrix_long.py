"""Each part killed with -9 while six launches stand at six moments: every one of them ends as its user expects."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.support.faults import Faults, running_stack
from tests.support.faults_under_way import assert_no_zombie
from tests.support.forge import Fault, Forge
from tests.support.leftovers import delete_hub_user
from tests.support.polling import eventually
from tests.support.quick_jupyter import quick_jupyter_wheel
from tests.support.stack import Following

pytestmark = [pytest.mark.long, pytest.mark.timeout(400), pytest.mark.usefixtures("nothing_is_left")]

BOUND_SECONDS = 60.0
"""After the kill: a lease that runs out, adoption, three builds one after the other and five servers."""


@pytest.fixture(scope="module")
def faults(forge: Forge, folder: Path) -> Iterator[Faults]:
    """Two gateways and two workers; each worker has one slot, and each repository one seat."""
    wheel = quick_jupyter_wheel(folder)
    with running_stack(
        forge, folder, workers=2, gateways=2, build_slots=1, seats_per_repo=1, base_packages=wheel
    ) as faults:
        yield faults


class Moments:
    """One launch at each moment: starting, waiting for a seat, building, about to push, queued, resolving."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.users_before = set(faults.stack.hub_users())
        self.started_repo = faults.slow_repo(holds_build=False, holds_server=True)
        self.built_repo = faults.slow_repo()
        self.pushed_repo = faults.slow_repo()
        self.queued_repo = faults.slow_repo(holds_build=False)
        self.resolved_repo = faults.slow_repo(holds_build=False)

        stack = faults.stack
        self.starting = stack.facade(self.started_repo.url, self.started_repo.sha)
        self.started_repo.until_server_starts()
        self.waiting = stack.facade(self.started_repo.url, self.started_repo.sha, gateway=1)
        self.waiting.until("waiting")
        self.building = faults.launch_into_build(self.built_repo, gateway=1)
        self.pushing = faults.launch_into_build(self.pushed_repo)
        self.queued = stack.facade(self.queued_repo.url, self.queued_repo.sha, gateway=1)
        self.queued.until("waiting")

        self._git_hold = Fault.holding()
        faults.forge.git_fault = self._git_hold
        requests_before = len(faults.forge.requests)
        # By the v1 API: a façade's stream has no id to be resumed by before its link is resolved.
        spec = f"{quote(self.resolved_repo.url, safe='')}/main"
        self.resolving_id = str(stack.create(spec, detached=True)["launch_id"])
        eventually(lambda: len(faults.forge.requests) > requests_before, "a request to the forge")
        eventually(lambda: all(one.last_id for one in self.followings), "an id for each, to be resumed by")
        self.pushed_repo.end_build()

    @property
    def followings(self) -> list[Following]:
        """Every launch's stream."""
        return [self.starting, self.waiting, self.building, self.pushing, self.queued]

    def resume_broken(self) -> None:
        """Connect again where a gateway's death has cut a stream off."""
        for following in self.followings:
            if following.is_broken:
                self.faults.resume(
                    following, gateway=int(f":{self.faults.stack.port + 1}/" in following.url), has_news=False
                )

    def _resolved_launch(self) -> dict[str, Any] | None:
        with contextlib.suppress(httpx.HTTPError):
            view = self.faults.stack.launch(self.resolving_id)
            return view if view["state"] in {"ready", "failed"} else None
        return None

    def finish(self, *, loses_lines: bool) -> None:
        """Let everything go on, and check each launch."""
        self.faults.forge.git_fault = None
        self._git_hold.release()
        self.built_repo.end_build()
        self.started_repo.start_server()
        for following in (self.starting, self.building, self.pushing, self.queued):
            self.faults.assert_server_answers(following.outcome(BOUND_SECONDS))
        view = eventually(self._resolved_launch, "a server of the launch that was resolved", BOUND_SECONDS)
        self.faults.assert_server_answers(view | {"phase": view["state"]})
        assert self.waiting.terminal is None, "two servers of a repository that may have one"
        delete_hub_user(self.faults.stack, self.starting.outcome()["url"].partition("/user/")[2].partition("/")[0])
        self.faults.assert_server_answers(self.waiting.outcome(BOUND_SECONDS))

        for repo, following in ((self.built_repo, self.building), (self.pushed_repo, self.pushing)):
            repo.assert_no_line_twice(following)
            if not loses_lines:
                repo.assert_every_line_once(following)
        for repo in (self.started_repo, self.built_repo, self.pushed_repo, self.queued_repo, self.resolved_repo):
            assert len(self.faults.build_ids(repo)) == 1
            assert repo.fetches == 1
        assert self.started_repo.server_starts == 2
        new = {
            name: servers for name, servers in self.faults.stack.hub_users().items() if name not in self.users_before
        }
        assert [len(servers) for servers in new.values()] == [1] * 5, new


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
