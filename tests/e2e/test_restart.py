"""A second `up` on the same data folder: after a stop, with a build under way, and after a kill -9 of `up` itself."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.api_launches import ApiLaunch, build_of, builds_ended, git_spec, log_of
from tests.support.faults import SlowRepo
from tests.support.forge import Forge
from tests.support.launching import Following
from tests.support.paths import share_packages
from tests.support.polling import eventually
from tests.support.quick_jupyter import quick_jupyter_wheel
from tests.support.small_stack import is_running
from tests.support.stack import Stack


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """A stack of the test's own, which it stops and starts again."""
    with Stack(tmp_path / "data", base_packages=quick_jupyter_wheel(tmp_path), restart_delay_seconds=0.1) as stack:
        share_packages(stack.data_dir)
        yield stack


class ReadyLaunch:
    """A launch that is ready, and what must be left of it after each restart."""

    def __init__(self, stack: Stack, forge: Forge, name: str) -> None:
        self._sha = forge.create_repo("restart", name, {"postBuild": "#!/bin/sh\necho one line of many\n"})
        self._url = f"{forge.url}/restart/{name}"
        self._forge = forge
        self._launched = ApiLaunch.begin(stack, git_spec(self._url, self._sha))
        self._view = self._launched.until_ended()
        self._log = log_of(stack, self._view["build_id"])
        assert "one line of many\n" in self._log

    def assert_kept(self, stack: Stack) -> None:
        """Check that launch, build and log read as they did, but for the server, which ended with the stack."""
        view: dict[str, Any] = stack.launch(self._launched.launch_id)
        assert (view["state"], view["build_id"], view["finished_at"]) == (
            "ready", self._view["build_id"], self._view["finished_at"],
        )  # fmt: skip
        assert stack.follow(self._launched.launch_id).outcome()["phase"] == "ready"
        build = build_of(stack, view["build_id"])
        assert (build["state"], build["image"]) == ("built", self._view["image"])
        assert log_of(stack, view["build_id"]) == self._log

    def assert_starts_without_a_build(self, stack: Stack) -> None:
        """Check that the image is still there: a launch of it builds nothing."""
        before = builds_ended(stack)
        again = stack.facade(self._url, self._sha)
        ready = again.outcome()
        assert ready["phase"] == "ready", ready
        assert again.phases == ["built", "launching", "ready"]
        assert builds_ended(stack) == before
        reply = stack.client.get(f"{ready['url']}api/status", params={"token": ready["token"]})
        assert reply.status_code == 200


@pytest.fixture
def browser() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, timeout=60) as browser:
        yield browser


def test_data_and_an_interrupted_build_outlive_a_stop_and_a_kill(
    stack: Stack, forge: Forge, browser: httpx.Client, tmp_path: Path
) -> None:
    launch = ReadyLaunch(stack, forge, tmp_path.name.lower())
    slow = SlowRepo(forge, tmp_path, f"{tmp_path.name}-slow".lower())
    interrupted = stack.facade(slow.url, slow.sha)
    interrupted.until_message("line 20\n")
    (build_id,) = [name.removeprefix("build ") for name in stack.sessions() if name.startswith("build ")]

    token = stack.start_token
    assert browser.get(f"{stack.url}/?token={token}").status_code == 303
    running = {**stack.parts(), **stack.session_pids()}
    stack.end(signal.SIGTERM)
    assert not [name for name, pid in running.items() if is_running(pid)]
    stack.start()
    assert browser.get(f"{stack.url}/about").status_code == 200  # the session outlives the restart
    assert httpx.get(f"{stack.url}/about?token={token}", trust_env=False).status_code == 401  # and the token does not
    launch.assert_kept(stack)
    _until_run_again(stack, interrupted, build_id, slow)
    launch.assert_starts_without_a_build(stack)

    running = {**stack.parts(), **stack.session_pids()}
    stack.end(signal.SIGKILL)
    assert [name for name, pid in running.items() if is_running(pid)] == list(running)
    stack.start()
    assert not [name for name, pid in running.items() if is_running(pid)]
    assert "left behind" in stack.log()
    launch.assert_kept(stack)
    launch.assert_starts_without_a_build(stack)


def _until_run_again(stack: Stack, following: Following, build_id: str, slow: SlowRepo) -> None:
    """Check that the interrupted build is run again as the same attempt, and its launch goes on to its end."""
    resumed = stack.follow(following.launch_id)
    resumed.until_message("The build is run again")
    assert build_of(stack, build_id)["state"] == "running"
    slow.end_build()
    assert resumed.outcome()["phase"] == "ready"
    assert (slow.fetches, build_of(stack, build_id)["state"]) == (2, "built")
    eventually(
        lambda: not [session for session in stack.sessions() if session.startswith("build ")], "no build goes on"
    )
