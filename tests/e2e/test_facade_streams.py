"""The event streams of `/build`, held against those recorded of a BinderHub (tests/contract/recorded/streams)."""

import json
import re
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.forge import Forge
from tests.support.launching import Following
from tests.support.paths import RECORDED
from tests.support.stack import Stack

STREAMS = RECORDED / "streams"
ENGINE_PHASES = {"fetching", "building", "pushing", "unknown"}
"""Phases whose lines are the build engine's own: how many there are, and which, is not ours to promise."""


class Recording:
    """One recorded answer of BinderHub."""

    def __init__(self, name: str) -> None:
        head, _, body = (STREAMS / f"{name}.txt").read_text().replace("\r\n", "\n").partition("\n\n")
        self.status = int(head.split()[1])
        self.content_type = next(line.split(": ")[1] for line in head.splitlines() if line.startswith("Content-Type"))
        self.events: list[dict[str, Any]] = [
            json.loads(line.removeprefix("data: ")) for line in body.splitlines() if line.startswith("data: ")
        ]

    @property
    def only(self) -> dict[str, Any]:
        (event,) = self.events
        return event


def story(events: list[dict[str, Any]]) -> list[str]:
    """Return the phases in order, the engine's own counted as one."""
    phases = ["engine" if event["phase"] in ENGINE_PHASES else event["phase"] for event in events]
    return [phase for at, phase in enumerate(phases) if at == 0 or phases[at - 1] != phase]


def last_of(events: list[dict[str, Any]], phase: str) -> dict[str, Any]:
    """Return the last event of a phase."""
    return [event for event in events if event["phase"] == phase][-1]


def follow_to_end(following: Following, recording: Recording) -> list[dict[str, Any]]:
    """Wait for the end of a stream and return its events; each is well formed, and only the last is terminal."""
    following.outcome()
    assert following.status == recording.status == 200
    assert following.reply_headers["content-type"] == recording.content_type
    assert following.reply_headers["cache-control"] == "no-cache, no-store"
    terminal = [event for event in following.events if event["phase"] in {"ready", "failed", "cancelled"}]
    assert terminal == following.events[-1:]
    for event in following.events:
        assert event["message"].endswith(("\n", "\r")), event
        assert event["phase"] in ENGINE_PHASES | {"waiting", "built", "launching", "ready", "failed"}, event
    return following.events


@pytest.fixture(scope="module")
def demo(forge: Forge) -> str:
    forge.create_repo("streams", "demo", {"README.md": "A demo.\n"})
    return f"{forge.url}/streams/demo"


def test_cold_then_built_before(stack: Stack, demo: str) -> None:
    for name in ("cold", "built-before"):
        recording = Recording(name)
        events = follow_to_end(stack.facade(demo), recording)
        assert story(events) == story(recording.events), name
        assert set(last_of(recording.events, "built")) <= set(last_of(events, "built"))
        assert last_of(events, "built")["message"] == last_of(recording.events, "built")["message"]
        assert events[0]["message"] == recording.events[0]["message"]
        first_launching = next(event for event in events if event["phase"] == "launching")
        assert first_launching["message"].startswith("Launching server...")
        _assert_ready(events, last_of(recording.events, "ready"), stack, demo)


def _assert_ready(events: list[dict[str, Any]], recorded: dict[str, Any], stack: Stack, repo: str) -> None:
    ready = last_of(events, "ready")
    sha = ready["image"].rpartition(":")[2]
    assert set(recorded) <= set(ready)
    assert re.fullmatch(r"http://localhost:\d+/user/[a-z0-9-]+/", ready["url"])
    assert ready["message"] == f"server running at {ready['url']}\n"
    assert re.fullmatch(r"[\w-]{22}", ready["token"])
    assert ready["image"] == last_of(events, "built")["imageName"]
    assert re.fullmatch("[0-9a-f]{40}", sha)
    assert (ready["repo_url"], ready["binder_ref_url"]) == (repo, repo)
    assert ready["binder_launch_host"] == f"{stack.url}/"
    assert ready["binder_request"] == f"v2/git/{quote(repo, safe='')}/HEAD"
    assert ready["binder_persistent_request"] == f"v2/git/{quote(repo, safe='')}/{sha}"
    assert ready["binder_client_ip"] == "127.0.0.1"
    answer = stack.client.get(f"{ready['url']}api/status", params={"token": ready["token"]})
    assert answer.status_code == 200


def test_build_failed(stack: Stack, forge: Forge) -> None:
    forge.create_repo("streams", "broken", {"postBuild": "#!/bin/sh\necho it does not work\nexit 3\n"})
    recording = Recording("build-failed")
    events = follow_to_end(stack.facade(f"{forge.url}/streams/broken"), recording)
    assert story(events) == story(recording.events[:-1])  # BinderHub's second `failed`, without a message, is a bug
    assert "it does not work\n" in [event["message"] for event in events]
    assert "exit status 3" in events[-1]["message"]
    assert "status_code" not in events[-1]


@pytest.mark.parametrize("name", ["ref-not-found", "unsupported-url", "bad-spec", "unknown-provider", "build-only"])
def test_refused_before_anything_is_built(stack: Stack, demo: str, name: str) -> None:
    encoded = quote(demo, safe="")
    path = {
        "ref-not-found": f"git/{encoded}/nosuchref",
        "unsupported-url": "git/nothing-here/HEAD",
        "bad-spec": "gh/onlyorg",
        "unknown-provider": "nosuch/a/b/HEAD",
        "build-only": f"git/{encoded}/HEAD?build_only=true",
    }[name]
    recording = Recording(name)
    (event,) = follow_to_end(stack.build(path), recording)
    expected = recording.only
    assert {key: event.get(key) for key in ("phase", "status_code")} == {
        key: expected.get(key) for key in ("phase", "status_code")
    }
    sentence = {
        "ref-not-found": f"Could not resolve ref for git:{encoded}/nosuchref. Double check your URL and that your repo "
        "is public.",
        "unsupported-url": "Unsupported git url nothing-here, protocol",
        "bad-spec": 'Spec is not of the form "user/repo/ref", provided: "onlyorg".',
        "unknown-provider": "No provider found for prefix nosuch",
        "build-only": "Building but not launching is not permitted",
    }[name]
    assert event["message"].startswith(sentence)
    if name != "ref-not-found":  # there the address is another one
        assert expected["message"].startswith(sentence)


def test_no_accept_header(stack: Stack, demo: str) -> None:
    path = f"{stack.url}/build/git/{quote(demo, safe='')}/HEAD"
    recording = Recording("no-accept")
    for accept in ("application/json", "*/*"):
        answer = stack.client.get(path, headers={"Accept": accept})
        assert (answer.status_code, answer.headers["content-type"]) == (recording.status, recording.content_type)
        assert answer.text == f"data: {json.dumps(recording.only)}\n\n"


def test_any_accept_header_that_names_the_type_will_do(stack: Stack) -> None:
    headers = {"Accept": "text/html, text/event-stream;q=0.9, */*;q=0.1"}
    events = follow_to_end(
        Following(f"{stack.url}/build/nosuch/a", headers=headers).start(), Recording("unknown-provider")
    )
    assert events[-1]["message"] == "No provider found for prefix nosuch\n"


def test_stays_open_after_the_end_with_keepalives(stack: Stack, demo: str) -> None:
    address = f"{stack.url}/build/git/{quote(demo, safe='')}/HEAD"
    headers = {"Accept": "text/event-stream"}
    with stack.client.stream("GET", address, headers=headers) as reply:
        lines = reply.iter_lines()
        for line in lines:
            if line.startswith("data:") and json.loads(line[5:])["phase"] == "ready":
                break
        after = [next(lines) for _ in range(3)]
    assert after == ["", ":keepalive", ""]


def test_the_server_ends_a_stream_that_nobody_closes(stack: Stack, demo: str) -> None:
    """The setting is a minute; here it is a few seconds. Until then the end is sent once, and nothing else."""
    answer = stack.client.get(
        f"{stack.url}/build/git/{quote(demo, safe='')}/HEAD", headers={"Accept": "text/event-stream"}
    )
    assert answer.text.count('"phase": "ready"') == 1
    assert ":keepalive\n\n" in answer.text.partition('"phase": "ready"')[2]


def test_a_resumed_stream_repeats_the_end_and_starts_nothing(stack: Stack, demo: str) -> None:
    following = stack.facade(demo)
    ready = following.outcome()
    users = stack.hub_users()
    again = stack.facade(demo, Last_Event_ID=following.last_id)
    assert again.outcome() == ready
    assert stack.hub_users() == users
