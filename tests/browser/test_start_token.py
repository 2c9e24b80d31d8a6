"""The start token in a real browser: how one gets in, and what of it a user's server sees."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import expect

from services.common.models import LaunchState
from tests.browser.accessibility import sideways, violations
from tests.browser.conftest import FakeGateway, OpenPage, serve_fake_gateway

TOKEN = "the-token-of-this-start"


class Echo(BaseHTTPRequestHandler):
    """A user's server that shows the cookies that it is sent, and sets one of its own."""

    def do_GET(self) -> None:
        body = f"<title>server</title><pre>Cookie: {self.headers.get('Cookie', '')}</pre>".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Set-Cookie", "of_the_server=1; Path=/")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def servers() -> Iterator[str]:
    """Where servers of users are: at another name than the gateway, as `make up` has it."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://localhost:{server.server_port}"
        server.shutdown()


@pytest.fixture
def gateway(servers: str) -> Iterator[FakeGateway]:
    with serve_fake_gateway(f"{servers}/user/u/", start_token=TOKEN) as gateway:
        yield gateway


@pytest.mark.parametrize("scripts", [True, False])
def test_a_badge_without_a_session_leads_on_once_the_token_is_given(
    gateway: FakeGateway, servers: str, open_page: OpenPage, artefacts: Path, scripts: bool
) -> None:
    page = open_page(f"{gateway.url}/v2/gh/org/warm/HEAD?urlpath=lab/tree/a%20b.ipynb", width=390, scripts=scripts)
    expect(page.get_by_role("heading", level=1)).to_have_text("The start token is required")
    expect(page.locator("main")).to_contain_text("Open the address that make up printed when it started; make url in")
    if scripts:
        page.screenshot(path=artefacts / "start-token-phone.png", full_page=True)
        assert violations(page) == []
        assert not sideways(page)
    page.get_by_label("Start token", exact=True).fill("of-an-earlier-start")
    page.get_by_role("button", name="Go on").click()
    expect(page.locator("main")).to_contain_text("That is not the token of this Bindery")
    page.get_by_label("Start token", exact=True).fill(f"{gateway.url}/?token={TOKEN}")
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("org/warm")
    assert page.url == f"{gateway.url}/v2/gh/org/warm/HEAD?urlpath=lab%2Ftree%2Fa+b.ipynb"
    expect(page.locator("main")).to_contain_text("lab/tree/a b.ipynb")
    page.get_by_role("button", name="Launch").click()
    if not scripts:
        page.get_by_role("link", name="Open the server").click()
    page.wait_for_url(f"{servers}/user/u/**")


def test_no_cookie_of_the_gateway_reaches_a_server_and_none_of_a_server_the_gateway(
    gateway: FakeGateway, servers: str, open_page: OpenPage
) -> None:
    page = open_page(f"{gateway.url}/?token={TOKEN}")
    assert page.url == f"{gateway.url}/"
    ready = gateway.launches.put(state=LaunchState.READY, finished_at=1.0)
    page.goto(f"{gateway.url}/launches/{ready}")
    ours = {cookie["name"] for cookie in page.context.cookies(gateway.url)}
    assert "bindery_session" in ours
    assert len(ours) == 2
    page.get_by_role("link", name="Open the server").click()
    page.wait_for_url(f"{servers}/user/u/**")
    assert page.inner_text("pre") == "Cookie: "
    page.reload()
    assert page.inner_text("pre") == "Cookie: of_the_server=1"
    with page.expect_request(f"{gateway.url}/about") as request:
        page.goto(f"{gateway.url}/about")
    assert "of_the_server" not in request.value.all_headers()["cookie"]


def test_under_the_servers_name_the_gateway_has_no_page(gateway: FakeGateway, open_page: OpenPage) -> None:
    port = gateway.url.rpartition(":")[2]
    page = open_page(f"http://localhost:{port}/?token={TOKEN}")
    assert page.url == f"{gateway.url}/"
    assert page.context.cookies(f"http://localhost:{port}") == []


def test_a_page_of_a_server_can_not_use_the_session(gateway: FakeGateway, servers: str, open_page: OpenPage) -> None:
    page = open_page(f"{gateway.url}/?token={TOKEN}")
    page.goto(f"{servers}/user/u/")
    before = len(gateway.launches.requests)
    for name in ("127.0.0.1", "localhost"):
        own = gateway.url.replace("127.0.0.1", name)
        for method in ("GET", "POST"):
            ask = "([url, method]) => fetch(url, {method, mode: 'no-cors', credentials: 'include'}).then(() => 'sent')"
            assert page.evaluate(ask, [f"{own}/build/gh/org/warm/HEAD", method]) == "sent"
        read = "url => fetch(url, {credentials: 'include'}).then(() => 'read', () => 'refused')"
        assert page.evaluate(read, f"{own}/build/gh/org/warm/HEAD") == "refused"
    assert len(gateway.launches.requests) == before


def test_a_launch_whose_session_has_ended_meanwhile_says_how_to_get_in(
    gateway: FakeGateway, open_page: OpenPage
) -> None:
    launch = gateway.launches.put(state=LaunchState.BUILDING)
    page = open_page(f"{gateway.url}/?token={TOKEN}")
    gateway.launches.breaks_after = 1
    gateway.launches.events[launch].append({"phase": "building", "message": "one line\n"})
    page.goto(f"{gateway.url}/launches/{launch}")
    expect(page.locator("#log")).to_contain_text("one line")
    page.context.clear_cookies()
    gateway.launches.events[launch].append({"phase": "building", "message": "another\n"})
    expect(page.get_by_role("heading", level=1)).to_have_text("The start token is required")
