"""Launches by the v1 API, and what the end-to-end tests ask of them."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from tests.support.launching import Following, Launching
from tests.support.polling import eventually
from tests.support.stack import Stack


def git_spec(repo_url: str, ref: str = "HEAD") -> str:
    """Return the spec of provider git."""
    return f"{quote(repo_url, safe='')}/{quote(ref, safe='')}"


@dataclass
class ApiLaunch:
    """One launch, with a client that follows it."""

    stack: Launching
    launch_id: str
    stream: Following

    @classmethod
    def begin(cls, stack: Launching, spec: str, **body: object) -> "ApiLaunch":
        launch_id = stack.create(spec, **body)["launch_id"]  # type: ignore[arg-type]
        return cls(stack, launch_id, stack.follow(launch_id))

    @property
    def view(self) -> dict[str, Any]:
        return self.stack.launch(self.launch_id)

    def until(self, state: str) -> dict[str, Any]:
        """Wait for a state."""

        def in_state() -> dict[str, Any] | None:
            view = self.view
            assert view["state"] == state or not view["finished_at"], view
            return view if view["state"] == state else None

        view_in_state: dict[str, Any] = eventually(in_state, f"state {state}; so far: {self.view}", 60)
        return view_in_state

    def until_ended(self, state: str = "ready") -> dict[str, Any]:
        """Wait for the end, which must be `state`; the launch as it is then."""
        last = self.stream.outcome()
        assert last["phase"] == state, (last, self.stream.text[-2000:])
        view = self.view
        assert view["state"] == state
        return view

    def problem(self) -> dict[str, Any]:
        """Wait for the failure, and return its problem, which is in the last event and in the launch."""
        problem: dict[str, Any] = self.until_ended("failed")["error"]
        last = self.stream.events[-1]
        assert last["error"] == {name: value for name, value in problem.items() if name in last["error"]}
        assert last["message"] == f"{problem['detail']}\n"
        return problem

    def cancel(self) -> None:
        reply = self.stack.client.delete(f"{self.stack.url}/api/v1/launches/{self.launch_id}")
        assert reply.status_code == 202, reply.text

    @property
    def build(self) -> dict[str, Any]:
        """The build of this launch, as it is now."""
        return build_of(self.stack, self.view["build_id"])


def build_of(stack: Launching, build_id: str) -> dict[str, Any]:
    """Return a build, as it is now."""
    reply = stack.client.get(f"{stack.url}/api/v1/builds/{build_id}")
    assert reply.status_code == 200, reply.text
    build: dict[str, Any] = reply.json()
    return build


def log_of(stack: Launching, build_id: str) -> str:
    """Return the log of a build."""
    reply = stack.client.get(f"{stack.url}/api/v1/builds/{build_id}/log")
    assert reply.status_code == 200, reply.text
    return reply.text


def builds_ended(stack: Stack) -> float:
    """Count the builds that the worker has brought to an end."""
    return stack.metric("worker", "bindery_builds_total")
