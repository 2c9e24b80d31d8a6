"""Builds as the builder's API has them: rebuilt once, cancelled by whom they concern, read in parts, followed."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from redis.asyncio import Redis

from services.builder.images import ExistingImage
from services.builder.queue.attempts import build_topic
from services.builder.queue.builds import Builds
from services.builder.queue.log_excerpt import LogExcerpt
from services.builder.routes import router
from services.common.models import Build, BuildState, Event, Phase
from services.common.models.error_codes import ErrorCode
from services.common.models.errors import BinderyError
from services.common.records.owned_record import OwnedRecord
from services.common.streams.entries import Entry
from services.common.web.auth import OPERATOR_HEADER
from services.common.web.problems import install_problem_handlers
from tests.support.in_process_builder import Builder, open_builder, request_for
from tests.support.valkey import Valkey

TOKEN = "the operator"


class NoImages:
    """A registry without images."""

    async def find(self, image: str) -> ExistingImage | None:
        return None

    async def health_problem(self) -> str | None:
        return None

    async def aclose(self) -> None:
        return None


@pytest.fixture
async def builder(valkey: Valkey, redis: Redis, tmp_path: Path) -> AsyncIterator[Builder]:
    async with open_builder(valkey, tmp_path, operator_token=TOKEN, build_queue_max=2, keepalive_seconds=0.1) as opened:
        yield opened


@pytest.fixture
def builds(builder: Builder) -> Builds:
    return Builds(context=builder.context, settings=builder.settings, attempts=builder.attempts, images=NoImages())


@pytest.fixture
async def client(builder: Builder, builds: Builds) -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    app.include_router(router)
    install_problem_handlers(app)
    app.state.context = builder.service_context(builds=builds)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://builder") as client:
        yield client


async def claim(builder: Builder, build: Build) -> OwnedRecord:
    """Be the worker that supervises a build."""
    await builder.offer_slots("worker", 10)
    await builder.admit()
    adopted = await builder.context.records.adopt("builder", "worker", topic=build_topic(build.build_id or ""))
    assert adopted
    return adopted[0]


async def fail(builder: Builder, build: Build, code: ErrorCode = "build_failed") -> None:
    error = BinderyError(code).problem
    failed_build = build.updated(state=BuildState.FAILED, error=error, finished_at=build.created_at)
    event = Event(phase=Phase.FAILED, message="Over.\n", state=BuildState.FAILED, error=error, terminal=True)
    await (await claim(builder, build)).write(event, body=failed_build, final=True)
    await builder.admission.done(build.build_id or "")


async def post(client: httpx.AsyncClient, repo: str = "repo", ref: str = "a", **fields: Any) -> httpx.Response:
    request = request_for(repo, ref).updated(**fields)
    return await client.post("/builds", json=request.model_dump(mode="json", exclude_none=True))


async def test_a_rebuild_that_is_asked_for_again_is_begun_once(builder: Builder, client: httpx.AsyncClient) -> None:
    first = Build.model_validate((await post(client)).json())
    await fail(builder, first)
    reply = await post(client)
    assert (reply.status_code, reply.json()["error"]["code"]) == (200, "build_failed")
    assert reply.json()["build_id"] == first.build_id
    replies = await asyncio.gather(*(post(client, replaces=first.build_id) for _ in range(5)))
    assert {reply.status_code for reply in replies} == {202}
    (second,) = {reply.json()["build_id"] for reply in replies}
    assert second == str(first.build_id).removesuffix("1") + "2"
    await fail(builder, Build.model_validate(replies[0].json()))
    late = await post(client, replaces=first.build_id)
    assert (late.status_code, late.json()["build_id"], late.json()["state"]) == (200, second, "failed")
    assert (await post(client, replaces=second)).json()["build_id"].endswith("-3")


async def test_a_replaced_attempt_that_was_followed_by_another_meanwhile_begins_none(builder: Builder) -> None:
    """Two ask at once; the first one's attempt has ended before the second gets to begin one."""
    first = await builder.request_build("repo")
    await fail(builder, first)
    request = request_for("repo", "a")
    second = await builder.attempts.start(first.image, request, after=first.build_id)
    await fail(builder, second)
    joined = await builder.attempts.start(first.image, request, after=first.build_id)
    assert (joined.build_id, joined.state) == (second.build_id, BuildState.FAILED)


async def test_a_full_queue_says_when_to_come_back(client: httpx.AsyncClient) -> None:
    for ref in "ab":
        assert (await post(client, ref=ref)).status_code == 202
    refusal = await post(client, ref="c")
    assert (refusal.status_code, refusal.json()["code"]) == (503, "build_queue_full")
    assert refusal.headers["retry-after"] == "120"


async def test_a_queued_build_says_its_place(builder: Builder, client: httpx.AsyncClient) -> None:
    reply = await post(client)
    assert reply.json()["queue"] == {"reason": "No builder is running.", "position": 1, "eta_seconds": None}
    address = reply.headers["location"]
    assert (await client.get(address)).json()["queue"] == reply.json()["queue"]
    await claim(builder, Build.model_validate(reply.json()))
    assert (await client.get(address)).json()["queue"] is None


async def test_a_build_that_launches_wait_for_is_the_operators_to_cancel(
    builder: Builder, client: httpx.AsyncClient
) -> None:
    address = (await post(client, launch_ref="one")).headers["location"]
    for headers, status, code in (
        ({}, 409, "conflict"),
        ({OPERATOR_HEADER: "x"}, 403, "forbidden"),
        ({OPERATOR_HEADER: TOKEN}, 204, ""),
        ({OPERATOR_HEADER: TOKEN}, 409, "conflict"),
    ):
        reply = await client.delete(address, headers=headers)
        assert reply.status_code == status, reply.text
        assert not code or reply.json()["code"] == code
    cancelled_build = (await client.get(address)).json()
    assert (cancelled_build["state"], cancelled_build["error"]["code"]) == ("cancelled", "build_stopped")


@pytest.mark.usefixtures("redis")
async def test_without_a_token_of_the_operator_nobody_is_the_operator(valkey: Valkey, tmp_path: Path) -> None:
    async with open_builder(valkey, tmp_path) as opened:
        app = FastAPI()
        app.include_router(router)
        install_problem_handlers(app)
        app.state.context = opened.service_context()
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://builder") as client:
            assert (await client.get("/queue", headers={OPERATOR_HEADER: "x"})).status_code == 403
            assert (await client.get("/queue")).json()["depth"] == 0


async def test_a_running_build_is_cancelled_by_its_worker(builder: Builder, client: httpx.AsyncClient) -> None:
    reply = await post(client, asker="me")
    messages = asyncio.Queue[bytes]()
    await builder.context.bus.listen(builder.context.keys.wake("builder"), messages.put_nowait)
    await claim(builder, Build.model_validate(reply.json()))
    assert (await client.delete(reply.headers["location"], params={"asker": "me"})).status_code == 202
    async with asyncio.timeout(60):
        while await messages.get() != f"cancel {reply.json()['build_id']}".encode():
            pass


async def test_a_build_that_was_asked_for_by_itself_is_cancelled_by_who_asked_for_it_alone(
    builder: Builder, client: httpx.AsyncClient
) -> None:
    address = (await post(client, asker="me")).headers["location"]
    for params in ({}, {"asker": "you"}):
        refusal = await client.delete(address, params=params)
        assert (refusal.status_code, refusal.json()["code"]) == (409, "conflict")
        assert (
            "only the client that requested it may cancel it, with the same session or Idempotency-Key" in refusal.text
        )
    assert (await client.get(address)).json()["state"] == "queued"
    assert (await post(client, asker="me")).json()["state"] == "queued", "asking again is safe"
    assert (await client.delete(address, params={"asker": "me"})).status_code == 204


async def test_what_several_want_for_itself_is_the_operators_to_cancel(client: httpx.AsyncClient) -> None:
    address = (await post(client, asker="me")).headers["location"]
    assert (await post(client, asker="you")).headers["location"] == address
    for asker in ("me", "you", "1", ""):
        assert (await client.delete(address, params={"asker": asker})).status_code == 409, asker
    assert (await client.delete(address, headers={OPERATOR_HEADER: TOKEN})).status_code == 204


async def test_a_launch_that_waits_too_keeps_a_build_from_who_asked_for_it_alone(
    builder: Builder, builds: Builds, client: httpx.AsyncClient
) -> None:
    reply = await post(client, asker="me")
    await post(client, launch_ref="one")
    refusal = await client.delete(reply.headers["location"], params={"asker": "me"})
    assert refusal.json()["detail"] == "Launches wait for this build (1): cancel those instead."
    await builds.leave(reply.json()["build_id"], "one", stop=True)
    assert (await client.delete(reply.headers["location"], params={"asker": "me"})).status_code == 204


async def test_a_build_that_was_asked_for_by_itself_goes_on_when_launches_leave_it(
    builder: Builder, builds: Builds, client: httpx.AsyncClient
) -> None:
    abandoned = builder.context.keys("{queue}:abandoned")
    wanted = Build.model_validate((await post(client)).json()).build_id or ""
    await post(client, launch_ref="one")
    await builds.leave(wanted, "one", stop=True)
    assert not await builder.context.redis.zcard(abandoned)
    launched = (await post(client, "other", launch_ref="two")).json()["build_id"]
    await builds.leave(launched, "two", stop=True)
    assert await builder.context.redis.zcard(abandoned) == 1
    await post(client, "other")
    assert not await builder.context.redis.zcard(abandoned)


# Logs


def entry(at: int, lines: int, *messages: str) -> Entry:
    events = json.dumps([{"phase": "building", "message": message} for message in messages]).encode()
    return Entry(id=f"{at}-0", number=at, lines=lines, bytes_before=0, payload=events)


def excerpt(part: LogExcerpt, *entries: Entry) -> list[str]:
    lines = part.of(
        candidate
        for candidate in entries
        if candidate.key > (int(part.after_entry.split("-")[0]), int(part.after_entry.split("-")[1]))
    )
    return [line.message for line in lines]


def test_lines_that_are_missing_are_counted_in_their_place() -> None:
    entries = [entry(1, 0, "a", "b"), entry(9, 7, "h", "", "j")]
    assert excerpt(LogExcerpt(), *entries) == ["a", "b", "5 lines are missing here.\n", "h", "j"]
    assert excerpt(LogExcerpt(lines=-3), *entries) == ["5 lines are missing here.\n", "h", "j"]
    assert excerpt(LogExcerpt(after="1-0.1"), *entries) == ["b", "5 lines are missing here.\n", "h", "j"]
    assert excerpt(LogExcerpt(after="9-0.0"), *entries) == ["h", "j"]  # right behind the gap
    assert excerpt(LogExcerpt(after="9-0.1"), *entries) == ["j"]
    assert excerpt(LogExcerpt(after="9-0.3"), *entries) == []
    assert excerpt(LogExcerpt(after="5-0.2"), *entries) == ["Some lines are missing here.\n", "h", "j"]


def test_lines_that_were_written_twice_are_told_once() -> None:
    assert excerpt(LogExcerpt(), entry(1, 0, "a", "b"), entry(2, 1, "b", "c")) == ["a", "b", "c"]


# Events


async def test_events_go_on_behind_the_last_one_that_came(builder: Builder, client: httpx.AsyncClient) -> None:
    build = Build.model_validate((await post(client)).json())
    claimed = await claim(builder, build)
    await claimed.write(Event(phase=Phase.BUILDING, message="one\n"), Event(phase=Phase.BUILDING, message="two\n"))
    cancelled_build = build.updated(state=BuildState.CANCELLED)
    await claimed.write(Event(phase=Phase.CANCELLED, message="over\n", terminal=True), body=cancelled_build, final=True)
    address = f"/builds/{build.build_id}/events"

    async def events(last_id: str = "") -> list[tuple[str, str]]:
        reply = await client.get(address, headers={"last-event-id": last_id})
        assert reply.headers["content-type"].startswith("text/event-stream")
        blocks = [dict(line.split(": ", 1) for line in block.split("\n")) for block in reply.text.split("\n\n")[:-1]]
        return [(block["id"], json.loads(block["data"])["message"]) for block in blocks]

    everything = await events()
    messages = [message for _, message in everything]
    assert messages == ["Waiting for build to start...\n", "one\n", "two\n", "over\n"]
    for at, (position, _) in enumerate(everything):
        assert await events(position) == (everything[at + 1 :] or everything[-1:])
    assert await events("nonsense") == await events("f" * 24 + "-1~5-0.1") == everything
    assert (await client.get(f"/builds/{'0' * 24}-1/events")).status_code == 404
