"""Builds that wait for a builder: their places, wherever they are shown, and what can be done about them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bindery.cli import main
from tests.support.api_launches import ApiLaunch, build_of, git_spec, log_of
from tests.support.forge import Forge
from tests.support.launching import Following
from tests.support.leftovers import leave_nothing
from tests.support.paths import share_packages
from tests.support.polling import eventually
from tests.support.quick_jupyter import quick_jupyter_wheel
from tests.support.stack import Stack

ORG = "queue"
TOKEN = "the operator's token"
LONGEST = 3
OPERATOR = {"Bindery-Operator-Token": TOKEN}
NewRepo = Callable[[str], str]


@pytest.fixture(scope="module")
def narrow_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack that builds one thing at a time."""
    folder = tmp_path_factory.mktemp("narrow")
    with Stack(
        folder / "data",
        base_packages=quick_jupyter_wheel(folder),
        build_slots=1,
        build_queue_max=LONGEST,
        build_cancel_grace_seconds=0.2,
        operator_token=TOKEN,
        linger_seconds=1,
        reap_interval_seconds=0.5,
    ) as stack:
        share_packages(stack.data_dir)
        yield stack


@pytest.fixture
def narrow(narrow_stack: Stack) -> Iterator[Stack]:
    yield narrow_stack
    eventually(lambda: queue_of(narrow_stack)["running"] == queue_of(narrow_stack)["depth"] == 0, "nothing is built")
    leave_nothing(narrow_stack)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Path]:
    """While this file is not there, builds of `repo` go on; it is there at the end."""
    gate = tmp_path / "gate"
    yield gate
    gate.touch()


@pytest.fixture
def repo(forge: Forge, gate: Path, request: pytest.FixtureRequest) -> NewRepo:
    """Makes repositories whose build ends when the gate opens; gives the spec."""

    def repo(name: str) -> str:
        name = f"{request.node.name[:40].replace('_', '-')}-{name}"
        script = f"#!/bin/sh\necho it runs\nwhile [ ! -e '{gate}' ]; do sleep 0.05; done\n"
        forge.create_repo(ORG, name, {"postBuild": script})
        return git_spec(f"{forge.url}/{ORG}/{name}")

    return repo


def queue_of(stack: Stack, **headers: str) -> dict[str, Any]:
    reply = stack.client.get(f"{stack.url}/api/v1/queue", headers=headers)
    assert reply.status_code == 200, reply.text
    queue: dict[str, Any] = reply.json()
    return queue


def runs(launch: ApiLaunch) -> ApiLaunch:
    launch.stream.until_message("it runs\n")
    return launch


def places_told(stream: Following) -> list[int]:
    return [event["queue"]["position"] for event in list(stream.events) if event.get("queue")]


def until_place(stack: Stack, launch: ApiLaunch, position: int) -> None:
    def place() -> bool:
        queue = stack.launch(launch.launch_id)["queue"]
        return bool(queue) and queue["position"] == position

    eventually(place, f"place {position}; now {stack.launch(launch.launch_id)['queue']}")


def test_the_place_is_told_as_it_changes_in_the_facade_in_v1_and_on_the_page(
    narrow: Stack, repo: NewRepo, gate: Path
) -> None:
    first = runs(ApiLaunch.begin(narrow, repo("first")))
    second = ApiLaunch.begin(narrow, repo("second"))
    until_place(narrow, second, 1)
    third = narrow.build(f"git/{repo('third')}")
    third.until_message("Waiting for a builder: place 2 of 2.\n")
    last = ApiLaunch.begin(narrow, repo("last"))
    until_place(narrow, last, 3)
    last.stream.until_message("Waiting for a builder: place 3 of 3.\n")
    assert last.build["queue"] == last.view["queue"] == {
        "reason": "All builders are busy.", "position": 3, "eta_seconds": None,
    }  # fmt: skip
    page = narrow.client.get(f"{narrow.url}/launches/{last.launch_id}").text
    assert "Waiting for a builder: number 3 in the queue" in page
    assert "All builders are busy." in page

    again = narrow.follow(last.launch_id)  # who comes later is told the place that there is now
    again.until_message("Waiting for a builder: place 3 of 3.\n")
    assert last.launch_id in again.last_id
    second.cancel()
    for stream, places, place in (
        (third, [2, 1], "1 of 2"),
        (last.stream, [3, 2], "2 of 2"),
        (again, [3, 2], "2 of 2"),
    ):
        stream.until_message(f"Waiting for a builder: place {place}.\n")
        assert places_told(stream) == places
    assert third.events[-1] == {
        "phase": "waiting", "message": "Waiting for a builder: place 1 of 2.\n",
        "queue": {"reason": "All builders are busy.", "position": 1, "eta_seconds": None},
    }  # fmt: skip

    gate.touch()
    assert third.outcome()["phase"] == "ready"
    view = last.until_ended()
    assert view["queue"] is None
    assert places_told(last.stream) == [3, 2, 1]
    assert "a builder: place" not in log_of(narrow, view["build_id"])
    first.until_ended()


def test_a_broken_stream_goes_on_behind_the_last_event_that_has_an_id(narrow: Stack, repo: NewRepo, gate: Path) -> None:
    runs(ApiLaunch.begin(narrow, repo("first")))
    waits = ApiLaunch.begin(narrow, repo("second"))
    waits.stream.until_message("place 1 of 1")
    waits.stream.close()
    before = list(waits.stream.events)
    waits.stream.resume()
    eventually(lambda: places_told(waits.stream) == [1, 1], "the place is told again, as nobody remembers who was told")
    gate.touch()
    waits.until_ended()
    events = [event for event in waits.stream.events if not event.get("queue")]
    assert events[: len(before) - 1] == before[:-1]
    whole = narrow.follow(waits.launch_id)
    whole.outcome()
    assert [event for event in whole.events if not event.get("queue")][:-1] == events[:-1]


def test_only_the_operator_stops_a_build_that_launches_wait_for(narrow: Stack, repo: NewRepo) -> None:
    running = runs(ApiLaunch.begin(narrow, repo("running")))
    queued = ApiLaunch.begin(narrow, repo("queued"))
    until_place(narrow, queued, 1)
    for launch, status in ((queued, 204), (running, 202)):
        address = f"{narrow.url}/api/v1/builds/{launch.view['build_id']}"
        refused = narrow.client.delete(address)
        assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
        assert "Launches wait for this build (1)" in refused.json()["detail"]
        refusal = narrow.client.delete(address, headers={"Bindery-Operator-Token": "x"})
        assert (refusal.status_code, refusal.json()["code"]) == (403, "forbidden")
        assert narrow.client.delete(address, headers=OPERATOR).status_code == status
        problem = launch.problem()
        assert (problem["code"], problem["whose_move"]) == ("build_stopped", "operator")
        assert launch.build["state"] == "cancelled"
        assert narrow.client.delete(address, headers=OPERATOR).status_code == 409
    for name in ("operator's token", "the%20operator"):
        assert all(name not in narrow.part_log(part) for part in narrow.parts())


def test_the_queue_is_shown_and_the_workers_names_to_the_operator(
    narrow: Stack, repo: NewRepo, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    idle = queue_of(narrow)
    assert (idle["depth"], idle["oldest_waiting_seconds"], idle["running"], idle["capacity"]) == (0, None, 0, 1)
    running = runs(ApiLaunch.begin(narrow, repo("running")))
    queued = ApiLaunch.begin(narrow, repo("queued"))
    until_place(narrow, queued, 1)
    busy = queue_of(narrow)
    assert (busy["depth"], busy["running"], busy["capacity"]) == (1, 1, 1)
    assert 0 <= busy["oldest_waiting_seconds"] < 60
    assert busy["workers"] == [{"name": None, "slots": 1, "running": 1}]
    (worker,) = queue_of(narrow, **OPERATOR)["workers"]
    assert worker["name"].startswith("builder-")
    monkeypatch.setenv("BINDERY_DATA_DIR", str(narrow.data_dir))
    monkeypatch.setenv("BINDERY_OPERATOR_TOKEN", TOKEN)
    assert main(["queue", "--gateway", narrow.url]) == 0
    output = capsys.readouterr().out
    assert "waiting  1, the first for" in output
    assert f"running  1 of 1\nworker   1 of 1  {worker['name']}\n" in output
    monkeypatch.delenv("BINDERY_OPERATOR_TOKEN")
    assert main(["cancel", str(queued.view["build_id"]), "--gateway", narrow.url]) == 1
    assert "Launches wait for this build" in capsys.readouterr().err
    for launch in (queued, running):
        assert main(["cancel", launch.launch_id, "--gateway", narrow.url]) == 0
        launch.until_ended("cancelled")
    assert main(["log", str(running.view["build_id"]), "--gateway", narrow.url]) == 0
    assert "\nit runs\n" in capsys.readouterr().out


def test_a_full_queue_is_told_once_with_the_time_to_come_back(narrow: Stack, repo: NewRepo) -> None:
    launches = [runs(ApiLaunch.begin(narrow, repo("running")))]
    for number in range(LONGEST):
        launches.append(ApiLaunch.begin(narrow, repo(f"queued-{number}")))
        until_place(narrow, launches[-1], number + 1)
    refused = ApiLaunch.begin(narrow, repo("one-too-many"))
    problem = refused.problem()
    assert (problem["code"], problem["retry_after_seconds"]) == ("build_queue_full", 120)
    assert f"{LONGEST} builds are already waiting." in problem["detail"]
    assert refused.stream.phases == ["resolving", "failed"]
    outcome = narrow.build(f"git/{repo('another')}").outcome()
    assert (outcome["phase"], outcome["code"]) == ("failed", "build_queue_full")
    reply = narrow.client.post(f"{narrow.url}/api/v1/builds", json={"provider": "git", "spec": repo("api")})
    assert (reply.status_code, reply.json()["code"], reply.headers["retry-after"]) == (503, "build_queue_full", "120")
    for launch in launches:
        launch.cancel()
    for launch in launches:
        launch.until_ended("cancelled")


def test_a_build_without_a_launch_is_begun_followed_and_cancelled(narrow: Stack, repo: NewRepo, gate: Path) -> None:
    spec = repo("built")

    def post() -> tuple[int, dict[str, Any]]:
        reply = narrow.client.post(f"{narrow.url}/api/v1/builds", json={"provider": "git", "spec": spec})
        assert reply.headers["location"] == f"/api/v1/builds/{reply.json()['build_id']}"
        return reply.status_code, reply.json()

    status, build = post()
    address = f"{narrow.url}/api/v1/builds/{build['build_id']}"
    assert (status, build["state"], build["waiting"]) == (202, "queued", 0)
    stream = Following(f"{address}/events").start()
    stream.until_message("it runs\n")
    assert post()[1]["build_id"] == build["build_id"]
    stream.close()
    before = len(stream.events)
    gate.touch()
    stream.resume()
    end = eventually(lambda: next((e for e in stream.events if e["phase"] == "built"), None), "the end")
    assert end["state"] == "built"
    stream.close()
    assert len(stream.events) > before
    assert not places_told(stream)  # a builder was free
    assert stream.text == log_of(narrow, build["build_id"])
    again = Following(f"{address}/events", last_id=stream.last_id).start()
    eventually(lambda: [event["phase"] for event in again.events] == ["built"], "who has the end is told it again")
    again.close()
    assert post()[0] == 200

    gate.unlink()
    spec = repo("cancelled")
    _, build = post()
    address = f"{narrow.url}/api/v1/builds/{build['build_id']}"
    Following(f"{address}/events").start().until_message("it runs\n")
    assert narrow.client.delete(address).status_code == 202
    eventually(lambda: build_of(narrow, build["build_id"])["state"] == "cancelled", "the build is cancelled")
    assert build_of(narrow, build["build_id"])["error"]["code"] == "cancelled"
