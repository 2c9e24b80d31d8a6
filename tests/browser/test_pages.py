"""The pages in a browser, around scripted launches."""

import re
from pathlib import Path

from playwright.sync_api import Dialog, Page, expect

from services.common.models import LaunchState
from tests.browser.accessibility import violations
from tests.browser.conftest import FakeGateway, OpenPage


def launch(page: Page, gateway: FakeGateway, story: str) -> None:
    """Launch the repository whose name is a story of `FakeLaunches`, by its link."""
    page.goto(f"{gateway.url}/v2/gh/org/{story}/HEAD?urlpath=lab/tree/a.ipynb")
    page.get_by_role("button", name="Launch").click()


def test_the_link_follows_what_is_typed(gateway: FakeGateway, open_page: OpenPage) -> None:
    page = open_page(gateway.url)
    page.get_by_label("GitHub repository name or URL").fill("https://github.com/org/repo")
    link = page.get_by_label("Link", exact=True)
    expect(link).to_have_value(f"{gateway.url}/v2/gh/org/repo/HEAD")
    page.get_by_label("Open at").fill("a b.ipynb")
    expect(link).to_have_value(f"{gateway.url}/v2/gh/org/repo/HEAD?urlpath=%2Fdoc%2Ftree%2Fa%2520b.ipynb")
    page.get_by_label("a URL path of the server").check()
    page.get_by_label("Open at").fill("/lab?reset")
    expect(link).to_have_value(f"{gateway.url}/v2/gh/org/repo/HEAD?urlpath=%2Flab%3Freset")
    page.get_by_label("Repository type").select_option("git")
    page.get_by_label("Arbitrary git repository URL").fill("https://x.y/z")
    page.get_by_label("Branch, tag or commit").fill("v1")
    expect(link).to_have_value(re.compile(r"/v2/git/https%3A%2F%2Fx\.y%2Fz/v1\?"))
    page.get_by_label("Repository type").select_option("zenodo")
    expect(page.get_by_label("Branch, tag or commit")).to_be_disabled()


def test_links_and_badges_are_copied(gateway: FakeGateway, open_page: OpenPage) -> None:
    page = open_page(f"{gateway.url}/?provider=gh&repository=o/r")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy the Markdown").click()
    expect(page.get_by_role("status")).to_have_text("Copied to the clipboard.")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == f"[![Launch on Bindery]({gateway.url}/badge_logo.svg)]({gateway.url}/v2/gh/o/r/HEAD)"


def test_a_launch_ends_in_the_server_at_the_path_asked_for(gateway: FakeGateway, open_page: OpenPage) -> None:
    page = open_page(gateway.url)
    launch(page, gateway, "fine")
    expect(page.get_by_role("heading", level=1)).to_have_text("Building the environment")
    page.wait_for_url("**/user/u/**")
    assert page.url == f"{gateway.url}/user/u/lab/tree/a.ipynb?token=T"
    page.go_back()
    expect(page.get_by_role("button", name="Launch")).to_be_visible()


def test_a_launch_that_is_looked_at_again_waits_for_a_click(gateway: FakeGateway, open_page: OpenPage) -> None:
    ready = gateway.launches.put(state=LaunchState.READY, finished_at=1.0)
    page = open_page(f"{gateway.url}/launches/{ready}")
    page.get_by_role("link", name="Open the server").click()
    page.wait_for_url("**/user/u/?token=T")


def test_phases_are_told_to_who_cant_see_them(gateway: FakeGateway, open_page: OpenPage) -> None:
    page = open_page(gateway.url)
    launch(page, gateway, "queued")
    expect(page.get_by_role("heading", level=1)).to_have_text(
        "Waiting for a builder: number 2 in the queue, about 2 min"
    )
    assert page.get_by_role("status").text_content() == "Waiting for a builder: number 2 in the queue"
    assert page.title() == "Waiting for a builder: number 2 in the queue, about 2 min · org/queued/HEAD · Bindery"
    assert page.locator("[aria-current=step]").inner_text().startswith("Build its environment")
    assert page.locator("#log").get_attribute("aria-live") is None
    expect(page.locator("#explanation")).to_have_text("busy")


def test_a_launch_can_be_cancelled(gateway: FakeGateway, open_page: OpenPage, artefacts: Path) -> None:
    page = open_page(gateway.url)
    launch(page, gateway, "endless")
    expect(page.locator("#log")).to_contain_text("package-29")
    page.screenshot(path=artefacts / "running-wide-light.png")
    page.emulate_media(color_scheme="dark")
    page.screenshot(path=artefacts / "running-wide-dark.png")
    assert violations(page) == []
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("button", name="Launch again")).to_be_visible()
    expect(page.locator("#log")).to_contain_text("package-29")


def test_a_failure_says_why_whose_move_it_is_and_can_be_tried_again(gateway: FakeGateway, open_page: OpenPage) -> None:
    page = open_page(gateway.url)
    launch(page, gateway, "fails")
    expect(page.get_by_role("heading", level=1)).to_have_text("The build failed")
    expect(page.locator(".trouble")).to_contain_text("numpyy")
    expect(page.get_by_role("status")).to_contain_text("The build failed. The installer could not find numpyy.")
    expect(page.locator("#log")).to_contain_text("ERROR: No matching distribution found for numpyy")
    assert page.title().startswith("The build failed")
    page.get_by_role("link", name="This line in the log").click()
    assert page.evaluate("getSelection().toString()") == "ERROR: No matching distribution found for numpyy"
    line = page.evaluate("getSelection().getRangeAt(0).getBoundingClientRect().top")
    log = page.locator("#log").bounding_box()
    assert log
    assert log["y"] <= line <= log["y"] + log["height"]
    before = page.url
    page.get_by_role("button", name="Build again").click()
    page.wait_for_url(lambda url: url != before and "/launches/" in url)
    assert gateway.launches.requests[-1]["options"].rebuild == "0123456789abcdef01234567-1"


def test_a_launch_that_is_lost_says_so_though_no_page_of_it_is_left(gateway: FakeGateway, open_page: OpenPage) -> None:
    page = open_page(gateway.url)
    launch(page, gateway, "endless")
    expect(page.locator("#log")).to_contain_text("package-29")
    gateway.launches.lose(page.url.rpartition("/")[2])
    expect(page.get_by_role("heading", level=1)).to_have_text("The launch was lost")
    expect(page.get_by_role("status")).to_contain_text("The launch was lost. Redis has lost this launch.")
    expect(page.locator("#explanation")).to_contain_text("Please launch again.")
    assert page.title().startswith("The launch was lost")


def test_a_wrong_ref_leads_back_to_the_form_as_it_was(gateway: FakeGateway, open_page: OpenPage) -> None:
    page = open_page(gateway.url)
    launch(page, gateway, "missing")
    page.get_by_role("link", name="Change the link").click()
    expect(page.get_by_label("GitHub repository name or URL")).to_have_value("org/missing")
    expect(page.get_by_label("Branch, tag or commit")).to_have_value("HEAD")


def test_what_a_build_prints_is_text(gateway: FakeGateway, open_page: OpenPage) -> None:
    page = open_page(gateway.url)
    dialogs: list[str] = []

    def dismiss(dialog: Dialog) -> None:
        dialogs.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", dismiss)
    launch(page, gateway, "endless")
    expect(page.locator("#log")).to_contain_text("<img src=x onerror=alert(1)> gpj.exe")
    assert page.locator("#log img").count() == 0
    text = page.locator("#log").text_content() or ""
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", text)
    assert dialogs == []


def test_ten_thousand_lines_stay_quick(gateway: FakeGateway, open_page: OpenPage) -> None:
    page = open_page(gateway.url)
    page.context.add_init_script(
        "window.longest = 0; new PerformanceObserver(list => { for (const task of list.getEntries())"
        " longest = Math.max(longest, task.duration); }).observe({type: 'longtask'});"
    )
    launch(page, gateway, "long")
    expect(page.locator("#log")).to_contain_text("99 % of it", timeout=60_000)
    text = page.locator("#log").text_content() or ""
    assert "line 9999\n" in text
    assert len(text.splitlines()) <= 4100
    assert "50 % of it" not in text
    expect(page.locator("#log-note")).to_contain_text("earlier lines are left out")
    assert page.evaluate("longest") < 1000
    at_end = "(log => log.scrollHeight - log.scrollTop - log.clientHeight)(document.getElementById('log'))"
    assert page.evaluate(at_end) < 40
    page.locator("#log").hover()
    page.mouse.wheel(0, -2000)
    page.wait_for_function(f"{at_end} > 1000")


def test_a_broken_stream_is_resumed_with_every_line_once(gateway: FakeGateway, open_page: OpenPage) -> None:
    gateway.launches.breaks_after = 7
    page = open_page(gateway.url)
    launch(page, gateway, "fails")
    expect(page.get_by_role("button", name="Build again")).to_be_visible(timeout=60_000)
    lines = (page.locator("#log").text_content() or "").splitlines()
    for number in range(30):
        assert lines.count(f"Collecting package-{number}") == 1


def test_all_of_it_works_without_scripts(gateway: FakeGateway, open_page: OpenPage, artefacts: Path) -> None:
    page = open_page(gateway.url, scripts=False)
    page.get_by_label("GitHub repository name or URL").fill("org/warm")
    page.get_by_label("Open at").fill("a.ipynb")
    page.get_by_role("button", name="Show link and badge").click()
    expect(page.get_by_label("Link", exact=True)).to_have_value(
        f"{gateway.url}/v2/gh/org/warm/HEAD?urlpath=%2Fdoc%2Ftree%2Fa.ipynb"
    )
    assert "token" not in page.url
    page.screenshot(path=artefacts / "home-without-scripts.png", full_page=True)
    page.get_by_role("button", name="Launch").click()
    page.wait_for_url("**/launches/*")
    page.screenshot(path=artefacts / "launch-without-scripts.png", full_page=True)
    page.get_by_role("link", name="Open the server").click(timeout=15_000)
    page.wait_for_url("**/user/u/doc/tree/a.ipynb?token=T")


def test_a_launch_is_cancelled_without_scripts(gateway: FakeGateway, open_page: OpenPage) -> None:
    page = open_page(gateway.url, scripts=False)
    launch(page, gateway, "endless")
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("It was cancelled")
    expect(page.get_by_role("button", name="Launch again")).to_be_visible()


FOREIGN = "<form method=post action={}/launches><input name=repository value=o/r><button>go</button></form>"


def test_another_site_launches_nothing(gateway: FakeGateway, open_page: OpenPage) -> None:
    page = open_page(gateway.url)
    for site in ("http://evil.example", "http://127.0.0.1:9"):
        page.route(
            f"{site}/**", lambda route: route.fulfill(content_type="text/html", body=FOREIGN.format(gateway.url))
        )
        page.goto(f"{site}/")
        page.get_by_role("button", name="go").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Another website requested this launch")
        page.goto(f"{site}/")
        answer = page.evaluate(
            "url => fetch(url).then(() => 'read', () => 'refused')", f"{gateway.url}/build/gh/o/r/HEAD"
        )
        assert answer == "refused"
    assert gateway.launches.requests == []
