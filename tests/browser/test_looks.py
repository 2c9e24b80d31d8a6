"""Every page, wide and narrow, light and dark: accessible, and kept as a picture for a look."""

from pathlib import Path

import pytest

from services.common.models import LaunchState, Queue
from services.common.models.error_codes import ErrorCode
from services.common.models.errors import BinderyError
from services.common.models.server import ServerState
from tests.browser.accessibility import sideways, violations
from tests.browser.conftest import FakeGateway, OpenPage

SIZES = {"wide": (1280, 900), "phone": (390, 844), "zoomed": (320, 256)}


def _pages(gateway: FakeGateway) -> dict[str, str]:
    launches = gateway.launches

    def failed(code: ErrorCode, detail: str) -> str:
        error = BinderyError(code, detail).problem
        return f"/launches/{launches.put(state=LaunchState.FAILED, error=error, build_id=f'{0:024}-1', image='i')}"

    queue = Queue(reason="busy", position=7, eta_seconds=400)
    ready = launches.put(state=LaunchState.READY, image="i", finished_at=1.0)
    return {
        "home": "/",
        "home-with-link": "/?provider=gh&repository=binder-examples/requirements&path=index.ipynb",
        "home-with-trouble": "/?provider=gh&repository=nonsense",
        "confirm": "/v2/gh/binder-examples/requirements/HEAD?labpath=index.ipynb",
        "confirm-long": f"/v2/git/https%3A%2F%2Fexample.org%2F{'long' * 60}/{'ref' * 60}",
        "unknown-type": "/v2/svn/o/r/HEAD",
        "about": "/about",
        "queued": f"/launches/{launches.put(state=LaunchState.WAITING, queue=queue, image='i')}",
        "build-failed": failed("build_failed", "The installation of packages ended with exit status 1."),
        "not-found": failed("ref_not_found", f"There is no branch, tag or commit {'x' * 120}."),
        "no-seat": failed("quota_exceeded", "All seats are taken."),
        "ready": f"/launches/{ready}",
    }


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_pages_are_accessible_and_fit(
    gateway: FakeGateway, open_page: OpenPage, artefacts: Path, size: str, dark: bool
) -> None:
    width, height = SIZES[size]
    page = open_page(f"{gateway.url}/", width=width, height=height, dark=dark)
    problems: list[str] = []
    for name, path in _pages(gateway).items():
        page.goto(gateway.url + path)
        page.screenshot(path=artefacts / f"{name}-{size}-{'dark' if dark else 'light'}.png", full_page=True)
        problems += violations(page)
        if beyond := sideways(page):
            problems.append(f"{name} is {beyond} px too wide")
    assert problems == []


def test_a_server_that_has_ended_looks_so(gateway: FakeGateway, open_page: OpenPage, artefacts: Path) -> None:
    gateway.launches.server_state = ServerState.GONE
    page = open_page(f"{gateway.url}/launches/{gateway.launches.put(state=LaunchState.READY, finished_at=1.0)}")
    assert page.inner_text("h1") == "This server has ended"
    page.screenshot(path=artefacts / "ended-wide-light.png")
    assert violations(page) == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_the_page_at_the_address_of_a_server_that_has_ended_looks_as_ours_do(
    gateway: FakeGateway, open_page: OpenPage, artefacts: Path, size: str, dark: bool
) -> None:
    width, height = SIZES[size]
    servers_url = gateway.url.replace("127.0.0.1", "localhost")  # another host, where we have no other file
    page = open_page(f"{servers_url}/ended", width=width, height=height, dark=dark)
    for name, query in (("ended-server", ""), ("unanswered-server", "?unanswered")):
        page.goto(f"{servers_url}/ended{query}")
        page.screenshot(path=artefacts / f"{name}-{size}-{'dark' if dark else 'light'}.png", full_page=True)
        assert page.evaluate("getComputedStyle(document.querySelector('.card')).borderLeftWidth") == "5px"
        assert violations(page) == []
        assert sideways(page) == 0
    page.get_by_role("link", name="To the launch form").click()
    assert page.url == f"{gateway.url}/"


def test_targets_are_large_enough(gateway: FakeGateway, open_page: OpenPage) -> None:
    page = open_page(f"{gateway.url}/?provider=gh&repository=o/r", width=390)
    small = page.eval_on_selector_all(
        "button, a.button, select, input, nav a",
        "all => all.filter(e => e.checkVisibility())"
        ".map(e => [e.outerHTML, (e.closest('label') ?? e).getBoundingClientRect()])"
        ".filter(([, box]) => box.height < 24 || box.width < 24).map(([text]) => text)",
    )
    assert small == []


def test_the_keyboard_reaches_the_content_first_and_shows_where_it_is(
    gateway: FakeGateway, open_page: OpenPage
) -> None:
    page = open_page(f"{gateway.url}/about")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    assert page.evaluate("document.activeElement.getBoundingClientRect().top") >= 0
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_nothing_moves_for_who_asked_for_that(gateway: FakeGateway, open_page: OpenPage) -> None:
    page = open_page(f"{gateway.url}/launches/{gateway.launches.put(state=LaunchState.BUILDING)}")
    animation = "getComputedStyle(document.querySelector('.current'), '::before').animationName"
    assert page.evaluate(animation) == "stitch"
    page.emulate_media(reduced_motion="reduce")
    assert page.evaluate(animation) == "none"
