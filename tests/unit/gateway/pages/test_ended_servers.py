"""What the gateway answers to requests for a server that has ended, which the proxy hands on to it."""

import re

import httpx
import pytest

from tests.support.fake_gateway import OWN, edge_client

LAB = {"host": "servers.example:8000", "accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
FETCH = {"host": "servers.example:8000", "accept": "*/*", "origin": "https://thebe.example"}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND")


@pytest.mark.parametrize("query", ["", "?token=of-a-server", "?unanswered"])
async def test_a_browser_gets_a_page_that_brings_all_it_needs(query: str) -> None:
    async with edge_client(start_token="a-token-of-the-tests") as client:
        reply = await client.get(f"/ended{query}", headers=LAB)
    assert reply.status_code == 424
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert "is gone, apart from what you downloaded or saved" in reply.text
    addresses = re.findall(r'(?:href|src|action)="([^"]*)"', reply.text)
    assert [address for address in addresses if address.startswith("data:text/css;charset=utf-8;base64,")]
    others = {address for address in addresses if not address.startswith("data:")}
    assert others == {"#main", f"{OWN}/", f"{OWN}/about"}


async def test_the_page_leaves_nothing_behind_and_tells_no_other_site_its_address() -> None:
    async with edge_client() as client:
        reply = await client.get("/ended?token=of-a-server", headers=LAB)
    assert "set-cookie" not in reply.headers
    assert "of-a-server" not in reply.text
    assert (reply.headers["cache-control"], reply.headers["referrer-policy"]) == ("no-store", "no-referrer")
    assert "default-src 'none'" in reply.headers["content-security-policy"]


async def test_a_server_that_still_has_a_route_only_has_probably_ended() -> None:
    async with edge_client() as client:
        page = (await client.get("/ended?unanswered", headers=LAB)).text
        problem = (await client.get("/ended?unanswered", headers=FETCH)).json()
        assert (await client.get("/ended?unanswered&token=x", headers=FETCH)).json()["detail"] != problem["detail"]
    assert '<h1 id="ended-title">This server does not answer</h1>' in page
    assert (problem["code"], "probably ended" in problem["detail"]) == ("server_ended", True)


@pytest.mark.parametrize("method", METHODS)
async def test_any_method_is_answered_with_the_problem_which_every_site_may_read(method: str) -> None:
    async with edge_client() as client:
        reply = await client.request(method, "/ended", headers=FETCH | {"sec-fetch-site": "cross-site"})
    assert reply.status_code == 424
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.headers["access-control-allow-origin"] == "*"
    assert int(reply.headers["content-length"]) > 100
    if method == "HEAD":
        assert reply.content == b""
    else:
        assert (reply.json()["code"], reply.json()["whose_move"]) == ("server_ended", "user")


async def test_a_preflight_passes_so_that_the_request_is_answered() -> None:
    asks = {"access-control-request-method": "PUT", "access-control-request-headers": "authorization,x-xsrftoken"}
    async with edge_client() as client:
        reply = await client.options("/ended", headers=FETCH | asks)
    assert (reply.status_code, reply.content) == (204, b"")
    assert reply.headers["access-control-allow-origin"] == "*"
    assert "PUT" in reply.headers["access-control-allow-methods"]
    assert reply.headers["access-control-allow-headers"] == "authorization, *"  # `*` leaves that one out


@pytest.mark.parametrize("path", ["/ended/", "/ended/x", "/", "/about", "/health"])
async def test_no_other_path_is_open_to_the_host_of_the_servers(path: str) -> None:
    async with edge_client() as client:
        reply: httpx.Response = await client.get(path, headers=LAB)
    assert (reply.status_code, reply.json()["code"]) == (421, "unknown_host")
