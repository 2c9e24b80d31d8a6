"""The idle culler killed with -9, in a stack whose servers need not be idle for long."""

from pathlib import Path

from tests.support.faults import running_stack
from tests.support.forge import Forge
from tests.support.polling import eventually


def test_culler_killed_the_next_one_removes_idle_servers(forge: Forge, tmp_path: Path) -> None:
    with running_stack(forge, tmp_path, idle_timeout_seconds=6, cull_every_seconds=1) as faults:
        stack = faults.stack
        pid = stack.kill("culler")
        stack.until_replaced("culler", pid)
        repo = faults.slow_repo(holds_build=False)
        assert stack.facade(repo.url, repo.sha).outcome()["phase"] == "ready"  # after the death: the new one's to cull
        eventually(lambda: not stack.hub_users(), "the new culler removes the idle server and its user", 60)
        eventually(lambda: not stack.sessions(), "no server left")
