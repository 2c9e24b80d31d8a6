"""The edge: hosts, origins, bodies, CORS, security headers, client addresses."""

import io
from collections.abc import AsyncIterator

import httpx
import pytest
from pydantic import ValidationError
from starlette.requests import Request

from services.gateway.app import create_app
from services.gateway.edge.origins import Origins
from services.gateway.settings import GatewaySettings
from tests.support.fake_gateway import OWN, edge_client
from tests.support.settings import settings_for

# Hosts


@pytest.mark.parametrize("host", ["127.0.0.1:8585", "localhost:8585", "LOCALHOST:8585", "[::1]:8585"])
async def test_our_own_names_are_answered(host: str) -> None:
    async with edge_client() as client:
        assert (await client.get("/versions", headers={"host": host})).status_code == 200


@pytest.mark.parametrize("host", ["localhost:8585", "LOCALHOST:8585", "[::1]:8585"])
async def test_pages_and_their_cookies_are_at_one_name(host: str) -> None:
    async with edge_client() as client:
        reply = await client.get("/v2/gh/o/r/HEAD?urlpath=a%20b&x=1", headers={"host": host})
        assert (reply.status_code, reply.headers["location"]) == (307, f"{OWN}/v2/gh/o/r/HEAD?urlpath=a%20b&x=1")
        post_reply = await client.post("/launches", headers={"host": host, "accept": "text/html"})
        assert (post_reply.status_code, post_reply.json()["code"]) == (421, "unknown_host")
        for answer in (reply, post_reply):
            assert "set-cookie" not in answer.headers


async def test_the_one_name_is_that_of_the_printed_address() -> None:
    async with edge_client("http://localhost:8585", public_url="http://localhost:8585") as client:
        assert (await client.get("/about")).status_code == 200
        reply = await client.get("/about", headers={"host": "127.0.0.1:8585"})
        assert reply.headers["location"] == "http://localhost:8585/about"


async def test_no_path_leads_to_another_host() -> None:
    async with edge_client() as client:
        for path in ("//evil.example/x", "/\\evil.example"):
            request = client.build_request("GET", OWN, headers={"host": "localhost:8585"})
            request.url = request.url.copy_with(raw_path=path.encode())
            assert (await client.send(request)).headers["location"] == f"{OWN}/"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8585", "127.0.0.1:9", "127.0.0.1.evil.example", ""])
async def test_other_names_are_refused_on_ones_own_machine(host: str) -> None:
    async with edge_client() as client:
        reply = await client.get("/about", headers={"host": host})
        assert (reply.status_code, reply.json()["code"]) == (421, "unknown_host")
        assert "address that it printed" in reply.json()["detail"]


async def test_a_second_gateway_answers_on_its_own_port_and_the_public_one() -> None:
    async with edge_client(listen_port=8586) as client:
        for host in ("127.0.0.1:8585", "127.0.0.1:8586"):
            assert (await client.get("/about", headers={"host": host})).status_code == 200


async def test_a_public_service_leaves_names_to_its_proxy() -> None:
    async with edge_client(local_mode=False, public_url="https://bindery.example") as client:
        assert (await client.get("/about", headers={"host": "10.0.0.7:8000"})).status_code == 200


# Who may launch


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-site": "none"},
        {"sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "same-origin", "origin": "null"},
        {"origin": OWN},
        {"origin": "https://thebe.example", "sec-fetch-site": "cross-site"},
        {"origin": "https://THEBE.example"},
    ],
)
async def test_our_pages_allowed_sites_and_programs_may_launch(headers: dict[str, str]) -> None:
    async with edge_client(allowed_origins="https://thebe.example/, https://other.example") as client:
        assert (await client.get("/build/gh/o/r/HEAD", headers=headers)).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site", "origin": "null"},
        {"sec-fetch-site": "same-site", "origin": "http://127.0.0.1:9999"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "http://localhost:8585"},  # no page of ours: perhaps of who listens at [::1]
        {"origin": "https://127.0.0.1:8585"},
        {"origin": "https://thebe.example.evil"},
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_other_sites_may_not_launch(headers: dict[str, str], method: str) -> None:
    async with edge_client(allowed_origins="https://thebe.example") as client:
        path = "/build/gh/o/r/HEAD" if method == "GET" else "/launches"
        reply = await client.request(method, path, headers=headers)
        assert (reply.status_code, reply.json()["code"]) == (403, "cross_site")
        assert "BINDERY_ALLOWED_ORIGINS" in reply.json()["detail"]


async def test_a_setting_lets_every_site_launch() -> None:
    async with edge_client(allowed_origins="*", local_mode=False) as client:
        for headers in ({"origin": "https://any.example"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}):
            assert (await client.get("/build/gh/o/r/HEAD", headers=headers)).status_code == 200


@pytest.mark.parametrize("sites", ["*", "https://thebe.example, *"])
def test_on_ones_own_machine_every_site_is_too_many(sites: str) -> None:
    with pytest.raises(ValidationError, match=r"let every web site run code on one's own machine: name the sites"):
        GatewaySettings(local_mode=True, allowed_origins=sites)


@pytest.mark.parametrize("site", ["thebe.example", "https://*.example", "null", "file:///", "https://u@thebe.example"])
def test_a_site_that_is_not_an_origin_is_refused_and_named(site: str) -> None:
    with pytest.raises(ValidationError, match=r"is not an origin: write scheme and host, as in https://example\.org"):
        GatewaySettings(allowed_origins=f"https://thebe.example, {site}")


async def test_a_gateway_without_a_public_address_knows_itself_by_the_host_header() -> None:
    async with edge_client("http://here.example", local_mode=False, public_url="") as client:
        own = await client.get("/build/gh/o/r/HEAD", headers={"origin": "http://here.example"})
        other = await client.get("/build/gh/o/r/HEAD", headers={"origin": "http://there.example"})
        assert (own.status_code, other.status_code) == (200, 403)


# What is read of a request


class Body:
    """A body that is sent in chunks, and how many of them were asked for."""

    def __init__(self, *chunks: bytes) -> None:
        self.chunks = chunks
        self.chunks_read = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            self.chunks_read += 1
            yield chunk


@pytest.mark.parametrize("accept", ["*/*", "text/html"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/launches"),
        ("POST", "/launches/x/cancel"),
        ("POST", "/api/v1/launches"),
        ("DELETE", "/api/v1/launches/x"),
        ("POST", "/api/v1/echo"),
    ],
)
async def test_nothing_of_what_another_site_sends_is_read(method: str, path: str, accept: str) -> None:
    body = Body(b"{", b"}")
    headers = {"origin": "https://evil.example", "content-type": "application/json", "accept": accept}
    async with edge_client() as client:
        reply = await client.request(method, path, headers=headers, content=body)
    assert (reply.status_code, body.chunks_read) == (403, 0)
    as_page = accept == "text/html" and not path.startswith("/api/")
    assert reply.headers["content-type"].startswith("text/html" if as_page else "application/problem+json")
    assert "BINDERY_ALLOWED_ORIGINS" in reply.text


async def test_a_body_that_says_that_it_is_too_large_is_not_read() -> None:
    body = Body(b"x" * 101)
    headers = {"content-type": "application/json", "content-length": "101"}
    async with edge_client(request_max_bytes=100) as client:
        reply = await client.post("/api/v1/echo", headers=headers, content=body)
    assert (reply.status_code, reply.json()["code"], body.chunks_read) == (413, "request_too_large", 0)
    assert reply.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("path", ["/api/v1/echo", "/launches"])
async def test_of_a_body_of_unknown_length_no_more_is_read_than_allowed(path: str) -> None:
    body = Body(*[b"x" * 40] * 9)
    kind = "application/json" if path.startswith("/api/") else "application/x-www-form-urlencoded"
    async with edge_client(request_max_bytes=100) as client:
        reply = await client.post(path, headers={"content-type": kind}, content=body)
    assert (reply.status_code, reply.json()["code"], body.chunks_read) == (413, "request_too_large", 3)


async def test_a_body_of_the_allowed_size_is_read() -> None:
    async with edge_client(request_max_bytes=100) as client:
        body = {"a": "x" * 90}
        assert (await client.post("/api/v1/echo", json=body)).json() == body


# What may be kept


async def test_answers_of_the_api_are_not_cached() -> None:
    async with edge_client() as client:
        for reply in (await client.post("/api/v1/echo", json={"a": "b"}), await client.get("/api/v1/nothing")):
            assert reply.headers["cache-control"] == "no-store"


# CORS


async def test_an_allowed_site_reads_answers_of_the_api_and_nobody_else_does() -> None:
    async with edge_client(allowed_origins="https://thebe.example") as client:
        for path in ("/build/gh/o/r/HEAD", "/versions", "/api/v1/nothing"):
            reply = await client.get(path, headers={"origin": "https://thebe.example"})
            assert reply.headers["access-control-allow-origin"] == "https://thebe.example"
            assert "retry-after" in reply.headers["access-control-expose-headers"]
            assert "access-control-allow-credentials" not in reply.headers
            for other in ({"origin": "https://evil.example"}, {}):
                reply = await client.get(path, headers=other)
                assert "access-control-allow-origin" not in reply.headers
                assert reply.headers["vary"].lower() == "origin"


async def test_pages_are_readable_by_nobody_else() -> None:
    async with edge_client(allowed_origins="*", local_mode=False) as client:
        reply = await client.get("/", headers={"origin": "https://thebe.example"})
        assert "access-control-allow-origin" not in reply.headers


async def test_versions_are_open_as_binderhubs_are_but_not_on_ones_own_machine() -> None:
    async with edge_client(local_mode=False) as client:
        assert (await client.get("/versions")).headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-origin" not in (await client.get("/build/gh/o/r/HEAD")).headers
    async with edge_client() as client:
        assert "access-control-allow-origin" not in (await client.get("/versions")).headers


async def test_a_preflight_names_what_is_allowed() -> None:
    asks = {"access-control-request-method": "POST", "access-control-request-headers": "idempotency-key"}
    async with edge_client(allowed_origins="*", local_mode=False) as client:
        reply = await client.options("/api/v1/launches", headers={"origin": "https://thebe.example"} | asks)
        assert reply.status_code == 204
        assert "DELETE" in reply.headers["access-control-allow-methods"]
        for name in ("last-event-id", "idempotency-key", "content-type", "authorization", "cache-control"):
            assert name in reply.headers["access-control-allow-headers"]
    async with edge_client(allowed_origins="https://thebe.example") as client:
        reply = await client.options("/api/v1/launches", headers={"origin": "https://evil.example"} | asks)
        assert "access-control-allow-methods" not in reply.headers


# What browsers may do with a page


async def test_pages_run_no_inline_script_and_are_framed_by_nobody() -> None:
    async with edge_client() as client:
        for path in ("/", "/about", "/v2/nope/x"):
            reply = await client.get(path, headers={"accept": "text/html"})
            policy = reply.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert reply.headers["referrer-policy"] == "same-origin"
            assert reply.headers["x-content-type-options"] == "nosniff"
            assert "style=" not in reply.text
            assert "onclick" not in reply.text


async def test_responses_that_are_not_pages_are_not_sniffed_either() -> None:
    async with edge_client() as client:
        reply = await client.get("/build/gh/o/r/HEAD")
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert "content-security-policy" not in reply.headers


# Addresses


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("203.0.113.9", "", "203.0.113.9"),
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "6.6.6.6, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "6.6.6.6, 198.51.100.1, 10.0.0.2", "198.51.100.1"),
        ("10.0.0.1", "10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "not an address", "10.0.0.1"),
        ("::ffff:10.0.0.1", "2001:db8::1", "2001:db8::1"),
        ("fd00::1", "198.51.100.1", "198.51.100.1"),
        ("", "198.51.100.1", ""),
    ],
)
def test_only_trusted_proxies_say_where_a_client_is(peer: str, forwarded: str, expected: str) -> None:
    settings = settings_for(GatewaySettings, {"trusted_proxies": "10.0.0.0/8, fd00::/8"})
    headers = [(b"x-forwarded-for", forwarded.encode())] if forwarded else []
    request = Request({"type": "http", "headers": headers, "client": (peer, 1) if peer else None})
    assert Origins(settings).client_ip(request) == expected


# Without https


@pytest.mark.parametrize(
    ("url", "is_told"), [("http://bindery.example", True), ("https://bindery.example", False), ("", False)]
)
def test_a_gateway_that_others_reach_by_plain_http_says_what_that_lacks(
    logs: io.StringIO, url: str, is_told: bool
) -> None:
    secrets = {"service_token": "a token", "installation_secret": "s" * 32}
    create_app(settings_for(GatewaySettings, secrets | {"public_url": url}))
    assert ("no_https" in logs.getvalue()) == is_told


async def test_metrics_with_a_token_of_their_own_ask_for_that_one_and_not_for_the_start_token() -> None:
    values = {"service_token": "a token", "installation_secret": "s" * 32, "local_mode": True, "listen_port": 8585}
    app = create_app(settings_for(GatewaySettings, values | {"start_token": "s" * 16, "metrics_token": "scraped"}))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=OWN) as client:
        for token, status in (("scraped", 200), ("s" * 16, 401), ("", 401)):
            reply = await client.get("/metrics", headers={"authorization": f"Bearer {token}"})
            assert reply.status_code == status
