"""How tests are spread over the workers of pytest-xdist (`-n`).

A unit test may run on any worker. Beyond those, tests share what costs seconds to start (a hub, a whole stack), so a
file stays together on one worker; and only half of the workers begin with such files, because starting one on every
worker at once would leave none of them the time that it needs.
"""

from typing import Any

from xdist.scheduler import LoadScopeScheduling

UNIT = "tests/unit/"
LONGEST = (
    "tests/contract/test_hub_spawner.py",
    "tests/e2e/test_main_job.py",
    "tests/contract/test_hub_culling.py",
    "tests/repositories/test_process.py",
    "tests/faults/test_redis_impaired.py",
    "tests/faults/test_unreadable.py",
    "tests/faults/test_two_of_each.py",
)
"""The files that take most time: they begin first, so that none of them is alone at the end."""


class FilesAndUnitTests(LoadScopeScheduling):  # type: ignore[misc]
    """Give out whole files, and unit tests one by one."""

    def _split_scope(self, nodeid: str) -> str:
        """Return what a test must stay together with."""
        if nodeid.startswith(UNIT):
            return nodeid
        file, _, _ = nodeid.partition("::")
        return file

    def _assign_work_unit(self, node: Any) -> None:
        """Give a worker its next scope: of its own kind, as long as there is one."""
        begins_with_files = int(node.gateway.id.removeprefix("gw")) % 2 == 0
        own_kind = (scope for scope in self.workqueue if scope.startswith(UNIT) != begins_with_files)
        longest = (scope for scope in LONGEST if begins_with_files and scope in self.workqueue)
        scope = next(longest, None) or next(own_kind, None)
        if scope:
            self.workqueue.move_to_end(scope, last=False)
        super()._assign_work_unit(node)

    def schedule(self) -> None:
        """Give out the tests, or what a worker left that crashed."""
        super().schedule()
        if self.workqueue:
            return

        # A worker holds its last test back until it hears of another, or that there is none: one that took over the
        # last test of a crashed worker would wait for ever.
        for node in self.nodes:
            if not node.shutting_down:
                node.shutdown()
