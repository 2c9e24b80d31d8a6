"""The start token: how clients get in with it, and what the others are told."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from services.common.service.clock import clock
from services.gateway.edge.start_token import query_without
from services.gateway.settings import GatewaySettings
from tests.support.fake_gateway import fake_gateway
from tests.support.fake_launches import FakeLaunches
from tests.support.settings import settings_for

OWN = "http://127.0.0.1:8585"
TOKEN = "a-token-of-the-tests"
PAGE = {"accept": "text/html"}
STREAM = {"accept": "text/event-stream"}
LINK = "/v2/gh/o/r/HEAD?urlpath=lab%2Ftree%2Fa%20b"
BEARER = {"authorization": f"Bearer {TOKEN}"}


@asynccontextmanager
async def gateway(**settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client that has shown nothing yet, at a gateway with a start token."""
    defaults = {"listen_port": 8585, "public_url": OWN, "start_token": TOKEN, "hub_url": "http://localhost:9000/"}
    app = fake_gateway(FakeLaunches("http://localhost:9000/user/u/"), **(defaults | settings))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=OWN) as client:
        yield client


async def session_of(client: httpx.AsyncClient) -> str:
    """Open the printed address; the session's cookie, as a browser sends it."""
    reply = await client.get(f"/?token={TOKEN}", headers=PAGE)
    assert reply.status_code == 303
    client.cookies.clear()
    return reply.headers["set-cookie"].partition(";")[0]


# Another user of the machine


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/launches/x"),
        ("GET", "/api/v1/launches/x/events"),
        ("POST", "/api/v1/launches"),
        ("DELETE", "/api/v1/launches/x"),
        ("GET", "/api/repoproviders"),
        ("GET", "/api/v1/openapi.json"),
        ("GET", "/metrics"),
        ("GET", "/launches/x"),
        ("GET", LINK),
        ("POST", "/launches"),
        ("OPTIONS", "/api/v1/launches"),
    ],
)
async def test_another_user_of_the_machine_is_told_what_is_missing(method: str, path: str) -> None:
    async with gateway() as client:
        reply = await client.request(method, path)
        problem = reply.json()
        assert (reply.status_code, problem["code"], problem["whose_move"]) == (401, "start_token_required", "user")
        assert reply.headers["www-authenticate"].startswith("Bearer")
        assert "the address that `make up` printed" in problem["detail"]
        assert "as a bearer token" in problem["detail"]
        assert "set-cookie" not in reply.headers


async def test_binderhubs_stream_says_it_in_its_own_way() -> None:
    async with gateway() as client:
        reply = await client.get("/build/gh/o/r/HEAD", headers=STREAM)
        assert (reply.status_code, reply.headers["content-type"]) == (200, "text/event-stream")
        event = json.loads(reply.text.removeprefix("data: "))
        assert (event["phase"], event["status_code"]) == ("failed", 401)
        assert "the address that `make up` printed" in event["message"]


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer another-token-altogether"},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": "Bearer "},
        {"authorization": "Bearer \xfc"},
        {"x-forwarded-for": "127.0.0.1"},
        {"cookie": "bindery_session=" + "a" * 32},
    ],
)
async def test_a_wrong_token_opens_nothing(headers: dict[str, str]) -> None:
    async with gateway() as client:
        raw_headers = {name.encode(): value.encode("latin-1") for name, value in headers.items()}
        for path in ("/api/repoproviders", "/"):
            assert (await client.get(path, headers=raw_headers)).status_code == 401
        for query in ("token=another-token-altogether", "token=", f"Token={TOKEN}", f"build_token={TOKEN}"):
            assert (await client.get(f"/?{query}", headers=raw_headers)).status_code == 401
        assert (await client.get(f"/api/repoproviders?token={TOKEN}", headers=raw_headers)).status_code == 401


async def test_a_token_of_an_earlier_start_is_called_that() -> None:
    async with gateway() as client:
        for reply in (
            await client.get("/api/repoproviders", headers={"authorization": "Bearer of-an-earlier-start"}),
            await client.get("/?token=of-an-earlier-start"),
        ):
            assert reply.json()["detail"].startswith(
                "That is not the token of this Bindery: each start makes a new one."
            )


async def test_nothing_of_a_body_is_read_without_the_token() -> None:
    chunks_read = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal chunks_read
        chunks_read += 1
        yield b"{}"

    async with gateway() as client:
        reply = await client.post("/api/v1/echo", content=body(), headers={"content-type": "application/json"})
    assert (reply.status_code, chunks_read) == (401, 0)


# Who needs none


@pytest.mark.parametrize("path", ["/versions", "/badge.svg", "/badge_logo.svg", "/favicon.ico", "/static/bindery.css"])
async def test_public_paths_need_no_token(path: str) -> None:
    async with gateway() as client:
        assert (await client.get(path)).status_code == 200


async def test_a_preflight_needs_no_token_and_an_allowed_site_reads_why_it_is_refused() -> None:
    site = {"origin": "https://friend.example"}
    async with gateway(allowed_origins="https://friend.example") as client:
        asks = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
        assert (await client.options("/api/v1/launches", headers=site | asks)).status_code == 204
        reply = await client.get("/api/repoproviders", headers=site)
        assert (reply.status_code, reply.headers["access-control-allow-origin"]) == (401, "https://friend.example")
        assert (await client.post("/api/v1/echo", json={}, headers=site | BEARER)).json() == {}


async def test_without_a_start_token_everybody_gets_in() -> None:
    async with gateway(start_token="") as client:
        for path in ("/", "/?token=x", "/build/gh/o/r/HEAD"):
            assert (await client.get(path)).status_code == 200


# Programs


async def test_programs_send_it_as_a_bearer_token() -> None:
    async with gateway() as client:
        for scheme in ("Bearer", "bearer"):
            headers = {"authorization": f"{scheme} {TOKEN}"}
            reply = await client.post("/api/v1/echo", json={"a": "b"}, headers=headers)
            assert (reply.json(), "set-cookie" in reply.headers) == ({"a": "b"}, False)
            assert (await client.get("/build/gh/o/r/HEAD", headers=headers)).text.startswith("anon:")


async def test_a_client_without_headers_sends_it_as_build_token() -> None:
    async with gateway() as client:
        reply = await client.get(f"/build/gh/o/r/HEAD?build_token={TOKEN}&build_only=true", headers=STREAM)
        assert reply.text.startswith("anon:")
        for other in ("another", "", "a.b.c"):
            reply = await client.get(f"/build/gh/o/r/HEAD?build_token={other}", headers=STREAM)
            assert json.loads(reply.text.removeprefix("data: "))["status_code"] == 401


async def test_the_start_token_is_kept_from_who_looks_at_build_tokens() -> None:
    # With the start token in its query, the route would find an invalid build token.
    async with gateway() as client:
        token = re.search(r"build_token=([^\"]+)", (await client.get(LINK, headers=BEARER | PAGE)).text)
        assert token
        address = f"/build/gh/o/r/HEAD?build_token={token[1]}"
        assert (await client.get(address, headers=BEARER)).text.startswith("anon:")
        alone = await client.get(address, headers=STREAM)
        assert json.loads(alone.text.removeprefix("data: "))["status_code"] == 401


def test_a_query_keeps_what_is_not_taken_as_it_is_written() -> None:
    query = "a=%7E+b&token=x%2Fy&to%6ben=z&=&flag&a=2"
    assert query_without(query, "token") == ("a=%7E+b&=&flag&a=2", ["x/y", "z"])
    assert query_without("build_token=a&build_token=b", "build_token", "b") == ("build_token=a", ["b"])


# Browsers


async def test_the_printed_address_makes_a_session_and_is_left_at_once() -> None:
    async with gateway() as client:
        reply = await client.get(f"{LINK}&token={TOKEN}&x=1", headers=PAGE)
        assert (reply.status_code, reply.headers["location"]) == (303, f"{LINK}&x=1")
        assert reply.headers["referrer-policy"] == "no-referrer"
        assert reply.headers["cache-control"] == "no-store"
        cookie = reply.headers["set-cookie"]
        for attribute in ("HttpOnly", "SameSite=lax", "Path=/", "Max-Age=2592000"):
            assert attribute in cookie
        assert "Domain" not in cookie
        assert TOKEN not in cookie + str(reply.headers["location"])
        assert (await client.get(LINK, headers=PAGE)).status_code == 200
        assert (await client.get("/build/gh/o/r/HEAD")).text.startswith("anon:")
        assert (await client.post("/api/v1/echo", json={})).status_code == 200


async def test_no_page_has_the_token() -> None:
    async with gateway() as client:
        await client.get(f"/?token={TOKEN}")
        for path in ("/", "/?provider=gh&repository=o/r", LINK, "/about"):
            reply = await client.get(path, headers=PAGE)
            assert reply.status_code == 200
            assert TOKEN not in reply.text + str(reply.headers)


async def test_a_session_outlives_a_new_token() -> None:
    async with gateway() as client:
        cookie = {"cookie": await session_of(client)}
    async with gateway(start_token="the-token-of-the-next-start") as client:
        assert (await client.get("/", headers=cookie)).status_code == 200


@pytest.mark.parametrize("other", [{"installation_secret": "another"}, {"installation_id": "another"}])
async def test_a_session_of_another_installation_is_invalid(other: dict[str, str]) -> None:
    async with gateway() as client:
        cookie = await session_of(client)
    async with gateway(**other) as client:
        assert (await client.get("/", headers={"cookie": cookie})).status_code == 401
        renamed = (await session_of(client)).partition("=")[0] + "=" + cookie.partition("=")[2]
        assert (await client.get("/", headers={"cookie": renamed})).status_code == 401


async def test_two_installations_on_one_machine_keep_each_others_sessions() -> None:
    names = set()
    for installation in ("one", "other"):
        async with gateway(installation_id=installation) as client:
            names.add((await session_of(client)).partition("=")[0])
    assert len(names) == 2


async def test_a_session_ends_and_can_not_be_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async with gateway(start_session_seconds=100) as client:
        cookie = await session_of(client)
        name, _, value = cookie.partition("=")
        issued, nonce, signature = value.split(".")
        for made_up in (
            f"{int(issued) + 1}.{nonce}.{signature}",
            f"{issued}.{nonce[:-2]}xx.{signature}",
            f"{issued}.{nonce}.{signature[:-2]}xx",
            f"{issued}.{nonce}.{'0' * 64}",
            f"{issued}.{nonce}",
            "",
        ):
            assert (await client.get("/", headers={"cookie": f"{name}={made_up}"})).status_code == 401
        # Another server of the host may have set one of the same name, for a path of its own.
        assert (await client.get("/", headers={"cookie": f"{name}=x; a=b; {cookie}; {name}="})).status_code == 200
        monkeypatch.setattr(clock, "now", lambda: float(issued) + 99)
        assert (await client.get("/", headers={"cookie": cookie})).status_code == 200
        monkeypatch.setattr(clock, "now", lambda: float(issued) + 101)
        assert (await client.get("/", headers={"cookie": cookie})).status_code == 401


async def test_under_another_name_of_the_machine_no_session_is_made_or_believed() -> None:
    async with gateway() as client:
        elsewhere = {"host": "localhost:8585"}
        reply = await client.get(f"/?token={TOKEN}", headers=elsewhere | PAGE)
        assert (reply.status_code, reply.headers["location"]) == (307, f"{OWN}/?token={TOKEN}")
        assert "set-cookie" not in reply.headers
        cookie = {"cookie": await session_of(client)}
        assert (await client.get("/api/repoproviders", headers=elsewhere | cookie)).status_code == 401
        assert (await client.post("/api/v1/echo", json={}, headers=elsewhere | BEARER)).status_code == 200


async def test_under_tls_the_browser_guards_the_session() -> None:
    async with gateway(local_mode=False, public_url="https://bindery.example") as client:
        cookie = (await client.get(f"/?token={TOKEN}")).headers["set-cookie"]
        assert cookie.startswith("__Host-bindery_start_")
        assert "Secure" in cookie


async def test_a_link_without_a_session_says_how_to_get_in_and_goes_on_from_there() -> None:
    async with gateway() as client:
        page = await client.get(f"{LINK}&q=%22%3E%3Cscript%3E", headers=PAGE)
        assert (page.status_code, page.headers["content-type"]) == (401, "text/html; charset=utf-8")
        how = "Open the address that <code>make up</code> printed when it started; <code>make url</code> in"
        assert how in page.text
        assert "set-cookie" not in page.headers
        assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
        assert '<form method="get" action="/v2/gh/o/r/HEAD">' in page.text
        assert "<script>" not in page.text
        fields = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', page.text)
        assert fields == [("urlpath", "lab/tree/a b"), ("q", "&#34;&gt;&lt;script&gt;")]
        for pasted in (TOKEN, f" {TOKEN}\n", f"{OWN}/?token={TOKEN}"):
            reply = await client.get("/v2/gh/o/r/HEAD", params={"urlpath": "a", "token": pasted}, headers=PAGE)
            assert (reply.status_code, reply.headers["location"]) == (303, "/v2/gh/o/r/HEAD?urlpath=a")


@pytest.mark.parametrize("path", ["//evil.example/x", "/\\evil.example"])
async def test_the_form_and_the_session_lead_to_no_other_host(path: str) -> None:
    async with gateway() as client:
        for query in (b"", f"?token={TOKEN}".encode()):
            request = client.build_request("GET", OWN, headers=PAGE)
            request.url = request.url.copy_with(raw_path=path.encode() + query)
            reply = await client.send(request)
            if query:
                assert (reply.status_code, reply.headers["location"]) == (303, "/")
            else:
                assert '<form method="get" action="/">' in reply.text


async def test_a_form_sent_without_a_session_begins_again_at_the_first_page() -> None:
    async with gateway() as client:
        page = await client.post("/launches?x=1", headers=PAGE)
        assert (page.status_code, '<form method="get" action="/">' in page.text) == (401, True)
        assert 'type="hidden"' not in page.text


# The setting


@pytest.mark.parametrize(
    "token", ["short", "with a space in between", "ümläute-are-not-ok", "a" * 257, "a/b+c=d&e=f#g?h%i"]
)
def test_a_token_that_does_not_fit_into_an_address_is_refused_and_not_repeated(token: str) -> None:
    with pytest.raises(ValidationError, match="16 to 256 letters, digits, dots, dashes") as raised:
        settings_for(GatewaySettings, {"start_token": token})
    assert token not in str(raised.value)
