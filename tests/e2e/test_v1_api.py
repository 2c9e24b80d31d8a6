"""The v1 API on the running stack: idempotency, addresses, problems, builds, OpenAPI."""

import contextlib
import json
from functools import partial
from typing import Any
from uuid import uuid4

import httpx
import jsonschema
import pytest

from services.common.models.error_codes import KINDS
from services.common.models.ids import launch_ref
from tests.support.api_launches import ApiLaunch, builds_ended, git_spec
from tests.support.forge import Forge
from tests.support.polling import eventually
from tests.support.stack import Stack

PROBLEM = "application/problem+json"
METHODS = {"get", "post", "put", "patch", "delete"}


@pytest.fixture(scope="module")
def demo(forge: Forge) -> str:
    forge.create_repo("v1", "demo", {"postBuild": "#!/bin/sh\necho 'a line <b>&'\n"})
    return git_spec(f"{forge.url}/v1/demo")


def post(stack: Stack, body: dict[str, Any], **headers: str) -> httpx.Response:
    return stack.client.post(
        f"{stack.url}/api/v1/launches",
        json=body,
        headers={name.replace("_", "-"): text for name, text in headers.items()},
    )


def assert_problem(reply: httpx.Response, status: int, code: str) -> None:
    assert (reply.status_code, reply.headers["content-type"]) == (status, PROBLEM)
    problem = reply.json()
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["title"] == KINDS[code].title
    assert problem["detail"].endswith(".")


def log_lines(stack: Stack, part: str, *texts: str) -> list[str]:
    return [line for line in stack.part_log(part).splitlines() if all(text in line for text in texts)]


def test_every_service_logs_a_launch_by_its_request_id_and_its_ref(stack: Stack, forge: Forge) -> None:
    forge.create_repo("v1", "logged", {"README.md": "logged"})
    reply = post(stack, {"provider": "git", "spec": git_spec(f"{forge.url}/v1/logged")})
    request_id = reply.headers["x-request-id"]
    launch_id = reply.json()["launch_id"]
    assert stack.follow(launch_id).outcome()["phase"] == "ready"
    for part, event in {
        "gateway": "launch_ended",
        "resolver": "request",
        "builder": "build_queued",
        "worker": "build_ended",
        "launcher": "server_start",
    }.items():
        texts = (f" {event} ", f"launch_ref={launch_ref(launch_id)}")
        # A line may come after the follower has been told: the gateway's is written once Redis confirms the end.
        matching = eventually(partial(log_lines, stack, part, *texts), f"{event} in the log of {part}")
        assert all(f"request_id={request_id}" in line for line in matching), (part, matching)


def test_the_same_key_and_body_are_the_same_launch(stack: Stack, demo: str) -> None:
    key = str(uuid4())
    body = {"provider": "git", "spec": demo, "path": "lab"}
    first = post(stack, body, Idempotency_Key=key)
    assert first.status_code == 202
    launch_id = first.json()["launch_id"]
    assert first.headers["location"] == f"/api/v1/launches/{launch_id}"
    again = post(stack, body, Idempotency_Key=key)
    assert (again.status_code, again.json()["launch_id"]) == (200, launch_id)
    assert again.headers["location"] == first.headers["location"]
    assert_problem(post(stack, body | {"path": "tree"}, Idempotency_Key=key), 422, "idempotency_mismatch")
    assert_problem(post(stack, body, Idempotency_Key="guessable"), 422, "idempotency_key_too_short")
    stack.follow(launch_id).outcome()
    assert len(stack.hub_users()) == 1
    late = post(stack, body, Idempotency_Key=key)
    assert (late.status_code, late.json()["state"], late.json()["path"]) == (200, "ready", "lab")
    assert len(stack.hub_users()) == 1


def test_a_launch_tells_url_and_token_while_its_server_runs(stack: Stack, demo: str) -> None:
    launch = ApiLaunch.begin(stack, demo)
    view = launch.until_ended()
    assert stack.client.get(f"{view['url']}api/status", params={"token": view["token"]}).status_code == 200
    assert launch.stream.events[-1]["url"] == view["url"]
    assert view["server_state"] == "ready"
    (user,) = stack.hub_users()
    assert user in view["url"]


def test_logs_contain_no_launch_id(stack: Stack, demo: str) -> None:
    launch = ApiLaunch.begin(stack, demo)
    launch.until_ended()
    launch_id = launch.launch_id
    assert stack.client.get(f"{stack.url}/launches/{launch_id}").status_code == 200
    path = f"/api/v1/launches/{launch_ref(launch_id)}"
    eventually(lambda: path in stack.part_log("gateway"), "the gateway's log has the request")
    for part in stack.parts():
        assert launch_id not in stack.part_log(part), part


def test_a_servers_token_is_in_no_log_and_in_no_stored_event(stack: Stack, demo: str) -> None:
    launch = ApiLaunch.begin(stack, demo)
    token = launch.until_ended()["token"]
    assert launch.stream.events[-1]["token"] == token, "whoever holds the launch's id is told"
    for part in stack.parts():
        assert token not in stack.part_log(part), part
    with contextlib.closing(stack.redis()) as client:
        stored = {key: str(client.xrange(key)) for key in client.keys("*:events")}
    assert launch.launch_id in str(stored), "the launch's own events are among them"
    assert any(b"{s:" in key for key in stored)
    assert [key for key, entries in stored.items() if token in entries] == []


def test_what_is_not_there(stack: Stack) -> None:
    for method, path in (
        ("GET", f"launches/{'0' * 43}"),
        ("DELETE", f"launches/{'0' * 43}"),
        ("GET", f"launches/{'0' * 43}/events"),
        ("GET", f"builds/{'0' * 24}-1"),
        ("GET", f"builds/{'0' * 24}-1/log"),
        ("GET", f"builds/{'0' * 24}-1/events"),
        ("DELETE", f"builds/{'0' * 24}-1"),
        ("GET", "nothing"),
    ):
        assert_problem(stack.client.request(method, f"{stack.url}/api/v1/{path}"), 404, "not_found")


@pytest.mark.parametrize("body", [{}, {"provider": "git"}, {"provider": "git", "spec": "a/b", "path": "x" * 5000}, []])
def test_a_body_that_is_wrong(stack: Stack, body: Any) -> None:
    assert_problem(post(stack, body), 422, "bad_request")
    assert_problem(post(stack, {"provider": "nosuch", "spec": "a"}), 404, "unknown_provider")


def test_a_get_starts_no_work(stack: Stack, demo: str) -> None:
    before = len(stack.redis_keys())
    for path in ("launches", f"launches?provider=git&spec={demo}", "builds"):
        reply = stack.client.get(f"{stack.url}/api/v1/{path}")
        assert reply.status_code in {404, 405}
        assert reply.headers["content-type"] == PROBLEM
    assert (len(stack.redis_keys()), stack.hub_users()) == (before, {})


def test_a_build_and_its_log(stack: Stack, demo: str) -> None:
    build_id = ApiLaunch.begin(stack, demo).until_ended()["build_id"] or ""
    address = f"{stack.url}/api/v1/builds/{build_id}"
    build = stack.client.get(address).json()
    assert (build["build_id"], build["state"], build["error"]) == (build_id, "built", None)
    text = stack.client.get(f"{address}/log")
    assert text.headers["content-type"] == "text/plain; charset=utf-8"
    assert "\na line <b>&\n" in text.text
    rows = stack.client.get(f"{address}/log", headers={"Accept": "application/x-ndjson"})
    assert rows.headers["content-type"] == "application/x-ndjson"
    events = [json.loads(row) for row in rows.text.splitlines()]
    at = next(number for number, event in enumerate(events) if event["message"] == "a line <b>&\n")
    assert events[at]["phase"] == "building"
    assert "".join(event["message"] for event in events) == text.text


def test_a_part_of_a_log(stack: Stack, demo: str) -> None:
    build_id = ApiLaunch.begin(stack, demo).until_ended()["build_id"] or ""
    address = f"{stack.url}/api/v1/builds/{build_id}/log"

    def rows(**params: str | int) -> list[dict[str, str]]:
        reply = stack.client.get(address, params={"format": "jsonl", **params})
        assert reply.status_code == 200, reply.text
        return [json.loads(row) for row in reply.text.splitlines()]

    everything = rows()
    assert rows(lines=3) == everything[:3]
    assert rows(lines=-2) == everything[-2:]
    for at, row in enumerate(everything):
        assert rows(after=row["position"]) == everything[at + 1 :]
        assert rows(after=row["position"], lines=2) == everything[at + 1 : at + 3]
    text = ""
    position = ""
    while (reply := stack.client.get(address, params={"after": position, "lines": 2})).text:
        text = text + reply.text
        position = reply.headers["bindery-log-position"]
    assert text == stack.client.get(address).text
    assert_problem(stack.client.get(address, params={"after": "x"}), 400, "bad_request")
    assert_problem(stack.client.get(address, params={"format": "x"}), 422, "bad_request")


def test_a_launch_that_joins_a_finished_build_builds_nothing(stack: Stack, demo: str) -> None:
    ApiLaunch.begin(stack, demo).until_ended()
    before = builds_ended(stack)
    ApiLaunch.begin(stack, demo).until_ended()
    assert builds_ended(stack) == before


def test_openapi_is_valid_and_names_every_route(stack: Stack) -> None:
    document = stack.client.get(f"{stack.url}/api/v1/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    paths = {path: METHODS & set(item) for path, item in document["paths"].items()}
    assert paths == {
        "/api/v1/launches": {"post"},
        "/api/v1/launches/{launch_id}": {"get", "delete"},
        "/api/v1/launches/{launch_id}/events": {"get"},
        "/api/v1/launches/{launch_id}/log": {"get"},
        "/api/v1/builds": {"post"},
        "/api/v1/builds/{build_id}": {"get", "delete"},
        "/api/v1/builds/{build_id}/log": {"get"},
        "/api/v1/builds/{build_id}/events": {"get"},
        "/api/v1/queue": {"get"},
        "/api/v1/detect": {"post"},
        "/api/v1/resolve": {"post"},
        "/api/v1/providers": {"get"},
        "/api/v1/admin/policy": {"get"},
        "/api/v1/admin/policy/audit": {"get"},
        "/api/v1/admin/policy/explain": {"post"},
        "/api/v1/admin/policy/rules": {"post"},
        "/api/v1/admin/policy/rules/{rule_id}": {"delete"},
    }
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    ids = [item[method]["operationId"] for item in document["paths"].values() for method in METHODS & set(item)]
    assert len(ids) == len(set(ids))
    for reference in _references(document):
        _look_up(document, reference)
    for item in document["paths"].values():
        for method in METHODS & set(item):
            assert PROBLEM in item[method]["responses"]["default"]["content"], item[method]["operationId"]


def _references(node: Any) -> list[str]:
    if isinstance(node, list):
        return [reference for child in node for reference in _references(child)]
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [reference for child in node.values() for reference in _references(child)]
    return []


def _look_up(document: dict[str, Any], reference: str) -> None:
    node: Any = document
    for step in reference.removeprefix("#/").split("/"):
        node = node[step]


def test_the_log_of_a_build_that_runs(stack: Stack, forge: Forge) -> None:
    forge.create_repo("v1", "running", {"postBuild": "#!/bin/sh\necho so far\nsleep 1000\n"})
    launch = ApiLaunch.begin(stack, git_spec(f"{forge.url}/v1/running"))
    launch.until("building")
    address = f"{stack.url}/api/v1/builds/{launch.view['build_id']}/log"
    eventually(lambda: "so far" in stack.client.get(address).text, "the line is there")
    launch.until_ended("failed")


def test_head_is_answered_at_once_and_begins_and_follows_nothing(stack: Stack, forge: Forge, demo: str) -> None:
    launch_id = stack.create(demo)["launch_id"]
    assert stack.follow(launch_id).outcome()["phase"] == "ready"
    build_id = stack.launch(launch_id)["build_id"] or ""
    followers = stack.metric("gateway", "bindery_stream_followers")
    launches = stack.redis_keys()
    for path in (f"/build/git/{demo}", f"/api/v1/launches/{launch_id}/events", f"/api/v1/builds/{build_id}/events"):
        reply = stack.client.head(f"{stack.url}{path}", headers={"accept": "text/event-stream"}, timeout=10)
        assert (reply.status_code, reply.content) == (200, b"")
        assert reply.headers["content-type"] == "text/event-stream"
        assert "no-store" in reply.headers["cache-control"]
    for path in (f"/api/v1/launches/{launch_id}", f"/api/v1/builds/{build_id}/log", f"/v2/git/{demo}", "/about"):
        full_reply = stack.client.get(f"{stack.url}{path}")
        head = stack.client.head(f"{stack.url}{path}")
        assert (head.status_code, head.headers["content-type"]) == (200, full_reply.headers["content-type"])
        assert head.content == b""
    assert stack.client.head(f"{stack.url}/api/v1/launches").status_code == 405
    new_launches = {key for key in stack.redis_keys() - launches if "{l:" in key}
    assert not new_launches
    assert stack.metric("gateway", "bindery_stream_followers") <= followers
