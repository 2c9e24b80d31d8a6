"""Cancelling a launch in each state that it passes through."""

import pytest

from tests.e2e.conftest import SEATS
from tests.support.api_launches import ApiLaunch, build_of, git_spec
from tests.support.forge import Fault, Forge
from tests.support.leftovers import keys_of, processes_of
from tests.support.polling import eventually
from tests.support.stack import Stack

ORG = "cancel"


@pytest.fixture
def held_forge(forge: Forge) -> Forge:
    """A forge that keeps git waiting."""
    forge.git_fault = Fault.holding()
    return forge


def assert_cancelled(launch: ApiLaunch) -> None:
    """It ended as cancelled, by the user, and cancelling it again is a conflict."""
    error = launch.until_ended("cancelled")["error"]
    assert (error["code"], error["whose_move"], error["can_retry"]) == ("cancelled", "user", True)
    assert launch.stream.events[-1]["message"] == "The launch was cancelled.\n"
    again = launch.stack.client.delete(f"{launch.stack.url}/api/v1/launches/{launch.launch_id}")
    assert (again.status_code, again.json()["code"]) == (409, "conflict")
    assert again.json()["detail"] == "The launch is cancelled already."


def nothing_left(stack: Stack, *, users: int = 0) -> None:
    eventually(lambda: len(stack.hub_users()) == users, f"{users} users on the hub")
    eventually(lambda: len(stack.sessions()) == users, f"{users} processes")
    if not users:
        eventually(lambda: not processes_of(stack), "no process")
        seats = tuple("{seats}:" + name for name in ("members", "held", "waiting", "asked"))
        prefixes = ("{queue}:waiting", "{queue}:running", "{queue}:abandoned", "arq:", "owned:", *seats)
        eventually(lambda: not [key for key in keys_of(stack) if key.startswith(prefixes)], "no work in Redis")


def test_while_resolving(stack: Stack, held_forge: Forge) -> None:
    held_forge.create_repo(ORG, "resolving", {"a": "a"})
    launch = ApiLaunch.begin(stack, git_spec(f"{held_forge.url}/{ORG}/resolving"))
    eventually(lambda: any("/resolving/" in request.path for request in held_forge.requests), "the forge is asked")
    assert launch.until("resolving")["build_id"] is None
    launch.cancel()
    assert_cancelled(launch)
    nothing_left(stack)


def test_while_building_stops_the_build_that_nobody_waits_for(stack: Stack, held_forge: Forge) -> None:
    """A build that another launch waits for goes on, and succeeds."""
    shas = {name: held_forge.create_repo(ORG, name, {"a": name}) for name in ("wanted", "alone")}
    leaves, stays, alone = (
        ApiLaunch.begin(stack, git_spec(f"{held_forge.url}/{ORG}/{name}", shas[name]))
        for name in ("wanted", "wanted", "alone")
    )
    for launch in (leaves, stays, alone):
        launch.until("building")
        _until_its_build_runs(launch)
    for launch in (leaves, alone):
        launch.cancel()
        assert_cancelled(launch)
    # Its grace began after the other's, so when it has been stopped the other's has passed too.
    lonely = eventually(lambda: _build_at_end(stack, alone.view["build_id"]), "the build nobody waits for is stopped")
    assert (lonely["state"], lonely["error"]["code"]) == ("cancelled", "cancelled")
    assert lonely["error"]["detail"] == "Nobody waits for this build any more."
    assert (stays.build["state"], stays.build["waiting"]) == ("running", 1)
    eventually(lambda: stack.sessions() == {f"build {stays.view['build_id']}"}, "only the wanted build runs")
    assert held_forge.git_fault
    held_forge.git_fault.release()
    held_forge.git_fault = None
    stays.until_ended()


def _until_its_build_runs(launch: ApiLaunch) -> None:
    eventually(lambda: launch.build["state"] == "running", "the build runs")


def _build_at_end(stack: Stack, build_id: str) -> dict[str, object] | None:
    build = build_of(stack, build_id)
    return build if build["finished_at"] else None


def test_while_waiting_for_a_seat(stack: Stack, forge: Forge) -> None:
    forge.create_repo(ORG, "seats", {"a": "a"})
    spec = git_spec(f"{forge.url}/{ORG}/seats")
    for launch in [ApiLaunch.begin(stack, spec) for _ in range(SEATS)]:
        launch.until_ended()
    waiting = [ApiLaunch.begin(stack, spec)]
    assert waiting[0].until("waiting")["queue"]["position"] == 1
    waiting.append(ApiLaunch.begin(stack, spec))
    assert waiting[1].until("waiting")["queue"]["position"] == 2
    waiting[0].stream.until_message("All seats are taken; you are number 1 in the queue.")
    waiting[0].cancel()
    assert_cancelled(waiting[0])
    waiting[1].stream.until_message("All seats are taken; you are number 1 in the queue.")
    waiting[1].cancel()
    assert_cancelled(waiting[1])
    nothing_left(stack, users=SEATS)


def test_while_launching(stack: Stack, forge: Forge) -> None:
    forge.create_repo(ORG, "launching", {"start": "#!/bin/sh\nsleep 1000\n"})
    launch = ApiLaunch.begin(stack, git_spec(f"{forge.url}/{ORG}/launching"))
    launch.until("launching")
    launch.stream.until_message("Waiting for Jupyter to answer")
    assert len(stack.hub_users()) == 1
    launch.cancel()
    assert_cancelled(launch)
    nothing_left(stack)


def test_after_the_end_it_is_a_conflict_and_the_server_stays(stack: Stack, forge: Forge) -> None:
    forge.create_repo(ORG, "ready", {"a": "a"})
    launch = ApiLaunch.begin(stack, git_spec(f"{forge.url}/{ORG}/ready"))
    url = launch.until_ended()["url"]
    reply = stack.client.delete(f"{stack.url}/api/v1/launches/{launch.launch_id}")
    assert (reply.status_code, reply.json()["detail"]) == (409, "The launch is ready already.")
    assert stack.client.get(f"{url}api").status_code == 200
