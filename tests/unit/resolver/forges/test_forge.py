"""A forge's API as providers ask it: credentials in rotation, limits, outages, and what the operator is told."""

import io
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from services.common.models.errors import BinderyError
from services.common.net.reply import ReplyTooLargeError
from services.common.service.clock import clock
from services.resolver.forges.credentials import Credential
from services.resolver.forges.forge import Forge, ForgeHost, json_of, list_of, objects_of
from services.resolver.settings import ResolverSettings
from tests.support.forge import Fault, Page
from tests.support.forge import Forge as Server
from tests.support.logs import line_of
from tests.support.settings import settings_for


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path) as server:
        server.pages["/api/a"] = page(1)
        yield server


def page(number: int, *, status: int = 200, remaining: str = "", **headers: str) -> Page:
    limits = {"X-RateLimit-Remaining": remaining, "X-RateLimit-Limit": "100"} if remaining else {}
    return Page(status, {**limits, **headers}, json.dumps({"number": number}).encode())


@asynccontextmanager
async def open_forge(
    server: Server, *credentials: str, is_operators: bool = True, **settings: object
) -> AsyncIterator[Forge]:
    host = ForgeHost(name="The Forge", label="test", url=server.api_url, is_operators=is_operators)
    tokens = [Credential({"Authorization": f"token {name}"}) for name in credentials]
    forge = Forge(host, settings_for(ResolverSettings, **settings), headers={"Accept": "x/y"}, credentials=tokens)
    yield forge
    await forge.aclose()


async def error_of(forge: Forge, path: str = "/a") -> BinderyError:
    with pytest.raises(BinderyError) as raised:
        await forge.get(path)
    return raised.value


def shown(server: Server) -> list[str | None]:
    return [request.headers.get("authorization") for request in server.requests]


async def test_a_reply_of_whatever_status_is_the_callers(server: Server) -> None:
    server.pages["/api/a"] = page(1, status=404)
    async with open_forge(server) as forge:
        reply = await forge.get("/a", etag='"one"')
    assert (reply.status, json_of(reply)) == (404, {"number": 1})
    assert {"accept": "x/y", "if-none-match": '"one"'}.items() <= server.requests[0].headers.items()


@pytest.mark.parametrize("body", [b"", b"[1]", b"<html>", b"\xff"])
async def test_what_is_no_object_is_an_empty_one(server: Server, body: bytes) -> None:
    server.pages["/api/a"] = Page(200, {}, body)
    async with open_forge(server) as forge:
        assert json_of(await forge.get("/a")) == {}


async def test_the_token_with_most_requests_left_is_used(server: Server) -> None:
    async with open_forge(server, "a", "b") as forge:
        for remaining in ("40", "60", "30", "20", "10"):
            server.pages["/api/a"] = page(1, remaining=remaining)
            await forge.get("/a")
        assert forge.remaining == 20 + 10
    assert shown(server) == ["token a", "token b", "token b", "token a", "token b"]


async def test_a_token_at_its_limit_is_left_alone_and_the_other_one_answers(server: Server) -> None:
    server.pages["/api/a"] = [page(0, status=429, **{"Retry-After": "600"}), page(1), page(2)]
    async with open_forge(server, "a", "b") as forge:
        assert json_of(await forge.get("/a")) == {"number": 1}
        assert json_of(await forge.get("/a")) == {"number": 2}
    assert shown(server) == ["token a", "token b", "token b"]


async def test_nobody_asks_while_all_are_at_their_limits(server: Server) -> None:
    reset = str(int(time.time()) + 600)
    server.pages["/api/a"] = page(0, status=403, remaining="0", **{"X-RateLimit-Reset": reset})
    async with open_forge(server, "a", "b") as forge:
        errors = [await error_of(forge), await error_of(forge, "/b")]
    assert {error.code for error in errors} == {"rate_limited"}
    assert errors[1].retry_after_seconds == pytest.approx(600, abs=15)
    assert errors[1].detail == "The Forge rate limit exceeded. Try again in 10 minutes."
    assert len(server.requests) == 2


async def test_a_token_that_is_not_known_is_left_alone_and_told_only_if_no_other_works(server: Server) -> None:
    server.pages["/api/a"] = [page(0, status=401), page(1), page(0, status=401)]
    async with open_forge(server, "a", "b") as forge:
        assert json_of(await forge.get("/a")) == {"number": 1}
        error = await error_of(forge)
    assert (error.code, error.detail) == (
        "provider_unavailable",
        "The Forge does not accept the credentials of this Bindery.",
    )


async def test_who_has_no_token_is_told_what_the_forge_says(server: Server) -> None:
    server.pages["/api/a"] = page(0, status=401)
    async with open_forge(server) as forge:
        assert (await forge.get("/a")).status == 401


@pytest.mark.parametrize(("remaining", "level"), [("10", "warning"), ("40", "info"), ("50", "debug")])
async def test_the_less_is_left_of_the_limit_the_louder_is_the_log(
    server: Server, logs: io.StringIO, remaining: str, level: str
) -> None:
    server.pages["/api/a"] = page(1, remaining=remaining)
    async with open_forge(server) as forge:
        await forge.get("/a")
    line = line_of(logs, "forge_limit")
    assert (line["level"], line["forge"], line["remaining"], line["limit"]) == (level, "test", int(remaining), 100)
    assert REGISTRY.get_sample_value("bindery_forge_requests_left", {"forge": "test"}) == float(remaining)


async def test_a_forge_that_is_down_is_not_asked_again_and_again(server: Server) -> None:
    server.pages["/api/a"] = page(0, status=502)
    async with open_forge(server, forge_failures_max=2, forge_pause_seconds=60) as forge:
        details = [(await error_of(forge)).detail for _ in range(4)]
    assert (
        details == ["The Forge answered 502."] * 2 + ["The Forge does not answer. It is asked again in a moment."] * 2
    )
    assert len(server.requests) == 2


async def test_a_reply_that_is_too_large_is_no_outage(server: Server) -> None:
    server.pages["/api/a"] = page(0)
    async with open_forge(server, forge_failures_max=1, forge_pause_seconds=60) as forge:
        with pytest.raises(ReplyTooLargeError):
            await forge.get("/a", max_bytes=5)
        assert json_of(await forge.get("/a")) == {"number": 0}


@pytest.mark.parametrize(("body", "values"), [(b"[1]", [1]), (b"{}", []), (b"<html>", []), (b"null", [])])
async def test_what_is_no_list_is_an_empty_one(server: Server, body: bytes, values: list[object]) -> None:
    server.pages["/api/a"] = Page(200, {}, body)
    async with open_forge(server) as forge:
        assert list_of(await forge.get("/a")) == values


def test_objects_are_picked_out_of_whatever_there_is() -> None:
    assert objects_of([{"a": 1}, None, [{}], "x"]) == [{"a": 1}]
    assert objects_of({"a": 1}) == objects_of(None) == []


async def test_a_forge_that_is_slow_is_given_up(server: Server, logs: io.StringIO) -> None:
    del server.pages["/api/a"]
    server.api_fault = Fault(hold=threading.Event())
    async with open_forge(server, forge_timeout_seconds=0.1) as forge:
        error = await error_of(forge)
    assert (error.code, error.detail) == ("provider_unavailable", "The Forge does not answer.")
    assert "in time" in str(line_of(logs, "forge_unreachable")["reason"])


async def test_the_operators_own_host_may_be_anywhere_and_a_strangers_may_not(server: Server) -> None:
    async with open_forge(server, allowed_networks="") as forge:
        assert (await forge.get("/a")).status == 200
    async with open_forge(server, is_operators=False, allowed_networks="") as forge:
        assert (await error_of(forge)).code == "address_not_allowed"


@pytest.mark.parametrize(("is_operators", "code"), [(True, "provider_unavailable"), (False, "ref_not_found")])
async def test_a_host_that_does_not_exist(is_operators: bool, code: str) -> None:
    host = ForgeHost(name="x", label="test", url="http://nowhere.invalid", is_operators=is_operators)
    forge = Forge(host, settings_for(ResolverSettings))
    assert (await error_of(forge)).code == code
    await forge.aclose()


async def test_a_fingerprint_tells_credentials_apart_and_does_not_depend_on_their_order(server: Server) -> None:
    fingerprints = []
    for tokens in ((), ("a",), ("b",), ("a", "b"), ("b", "a")):
        async with open_forge(server, *tokens) as forge:
            fingerprints.append(forge.fingerprint)
    assert len(set(fingerprints)) == 4
    assert fingerprints[3] == fingerprints[4]


def test_no_credential_is_shown() -> None:
    assert "secret" not in repr(Credential({"Authorization": "token secret"}))


@pytest.mark.parametrize(
    ("remaining", "warning"),
    [("90", None), ("20", None), ("19", "The Forge has less than 20% left of 100 requests until 08:10 UTC.")],
)
async def test_the_operator_is_warned_before_a_limit_is_reached(
    server: Server, monkeypatch: pytest.MonkeyPatch, remaining: str, warning: str | None
) -> None:
    at_eight = 1_800_000_000.0
    monkeypatch.setattr(clock, "now", lambda: at_eight)
    reset: dict[str, Any] = {"X-RateLimit-Reset": str(int(at_eight) + 600)}
    server.pages["/api/a"] = page(1, remaining=remaining, **reset)
    async with open_forge(server) as forge:
        assert forge.warning is None
        await forge.get("/a")
        assert forge.warning == warning
        monkeypatch.setattr(clock, "now", lambda: at_eight + 601)
        assert forge.warning is None


async def test_the_operator_is_told_of_a_limit_and_of_a_forge_that_is_down(server: Server) -> None:
    server.pages["/api/a"] = page(1, status=429, **{"Retry-After": "600"})
    async with open_forge(server, forge_failures_max=1, forge_pause_seconds=60) as forge:
        await error_of(forge)
        assert "The Forge answers no requests until" in (forge.warning or "")
    server.pages["/api/a"] = page(1, status=503)
    async with open_forge(server, forge_failures_max=1, forge_pause_seconds=60) as forge:
        await error_of(forge)
        assert forge.warning == "The Forge does not answer."
