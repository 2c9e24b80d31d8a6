"""Launches at six moments, from the resolving of a link to the start of a server, and how each of them must end."""

import contextlib
from typing import Any
from urllib.parse import quote

import httpx

from tests.support.faults import Faults
from tests.support.forge import Fault
from tests.support.launching import Following
from tests.support.leftovers import delete_hub_user
from tests.support.polling import eventually

BOUND_SECONDS = 60.0
"""After a fault: a lease that runs out, adoption, three builds one after the other and five servers."""


class Moments:
    """One launch at each moment: starting, waiting for a seat, building, about to push, queued, resolving.

    For a stack with two gateways, two workers of one slot each, and one seat for each repository.
    """

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
        """Connect again where the end of a gateway has cut a stream off."""
        for following in self.followings:
            if following.is_broken or not (following.terminal or following.is_being_read):
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
