"""From the form to a running kernel, in a browser, through everything that there is."""

import contextlib
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from tests.browser.accessibility import violations
from tests.browser.conftest import OpenPage, Target
from tests.support.polling import eventually

MINUTES = 60_000


def _fill_in(page: Page, kind: str, repository: str, path: str = "") -> None:
    page.get_by_label("Repository type").select_option(kind)
    page.locator("#repository").fill(repository)
    page.locator("#path").fill(path)


def _run_first_cell(page: Page) -> None:
    expect(page.locator(".jp-Notebook")).to_be_visible(timeout=3 * MINUTES)
    expect(page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").first).to_be_visible(timeout=2 * MINUTES)
    output = page.locator(".jp-OutputArea-output").first

    def ran() -> bool:
        # JupyterLab drops a run that it is asked for before its kernel is connected.
        page.locator(".jp-Cell .jp-InputArea-editor").first.click()
        page.keyboard.press("Shift+Enter")
        with contextlib.suppress(PlaywrightTimeout):
            output.wait_for(timeout=10_000)
        return output.count() > 0

    eventually(ran, "an output of the first cell", 120)
    expect(output).to_contain_text("42")


@pytest.mark.timeout(900)
def test_from_the_form_to_a_running_kernel(target: Target, open_page: OpenPage, artefacts: Path) -> None:
    page = open_page(f"{target.url}/")
    _fill_in(page, *target.good, "a b.ipynb")
    expect(page.get_by_label("Link", exact=True)).to_have_value(re.compile("urlpath=%2Fdoc%2Ftree%2Fa%2520b.ipynb$"))
    page.screenshot(path=artefacts / "stack-1-form.png", full_page=True)
    page.get_by_role("button", name="Launch").click()
    page.wait_for_url("**/launches/*")
    expect(page.locator("#log")).not_to_be_empty(timeout=MINUTES)
    page.screenshot(path=artefacts / "stack-2-building.png", full_page=True)
    page.wait_for_url("**/doc/tree/a%20b.ipynb*", timeout=10 * MINUTES)
    _run_first_cell(page)
    page.screenshot(path=artefacts / "stack-3-kernel.png")


@pytest.mark.timeout(900)
def test_a_badge_of_what_was_built_goes_straight_to_the_server(
    target: Target, open_page: OpenPage, artefacts: Path
) -> None:
    page = open_page(f"{target.url}/")
    _fill_in(page, *target.good)
    link = page.get_by_label("Link", exact=True)
    expect(link).to_have_value(re.compile("/v2/"))
    page.goto(f"{link.input_value()}?urlpath=lab")
    page.screenshot(path=artefacts / "stack-4-confirm.png", full_page=True)
    assert violations(page) == []
    page.get_by_role("button", name="Launch").click()
    page.wait_for_url("**/user/**", timeout=10 * MINUTES)
    expect(page.locator("#jp-main-dock-panel")).to_be_visible(timeout=3 * MINUTES)
    page.screenshot(path=artefacts / "stack-5-lab.png")


@pytest.mark.timeout(600)
def test_a_build_that_fails_is_a_page_that_says_why(target: Target, open_page: OpenPage, artefacts: Path) -> None:
    if not target.broken[1]:
        pytest.skip("no BINDERY_TEST_BROKEN_REPO")
    page = open_page(f"{target.url}/")
    _fill_in(page, *target.broken)
    page.get_by_role("button", name="Launch").click()
    expect(page.get_by_role("button", name="Build again")).to_be_visible(timeout=5 * MINUTES)
    expect(page.locator("#log")).to_contain_text("no-such-package-at-all")
    page.screenshot(path=artefacts / "stack-6-failed.png", full_page=True)
    assert violations(page) == []
    with page.expect_response(re.compile(r"/api/v1/builds/.*/log$")) as raw:
        page.get_by_role("link", name="All of it, as text").click()
    assert "no-such-package-at-all" in raw.value.text()


@pytest.mark.timeout(600)
def test_a_missing_ref_is_reported(target: Target, open_page: OpenPage, artefacts: Path) -> None:
    page = open_page(f"{target.url}/")
    _fill_in(page, *target.good)
    page.get_by_label("Branch, tag or commit").fill("no-such-branch")
    page.get_by_role("button", name="Launch").click()
    expect(page.get_by_role("link", name="Change the link")).to_be_visible(timeout=2 * MINUTES)
    expect(page.locator(".trouble")).to_contain_text("no-such-branch")
    page.screenshot(path=artefacts / "stack-7-not-found.png", full_page=True)


@pytest.mark.timeout(600)
def test_a_launch_is_cancelled_for_good(target: Target, open_page: OpenPage, artefacts: Path) -> None:
    page = open_page(f"{target.url}/")
    _fill_in(page, *target.good)
    page.get_by_role("button", name="Launch").click()
    page.wait_for_url("**/launches/*")
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("button", name="Launch again")).to_be_visible(timeout=MINUTES)
    expect(page.get_by_role("heading", level=1)).to_have_text("It was cancelled")
    page.screenshot(path=artefacts / "stack-8-cancelled.png", full_page=True)


@pytest.mark.timeout(900)
def test_the_launch_works_without_scripts(target: Target, open_page: OpenPage, artefacts: Path) -> None:
    page = open_page(f"{target.url}/", scripts=False)
    _fill_in(page, *target.good)
    page.get_by_role("button", name="Launch").click()
    page.wait_for_url("**/launches/*")
    page.get_by_role("link", name="Open the server").click(timeout=10 * MINUTES)
    page.wait_for_url("**/user/**", timeout=MINUTES)
    page.screenshot(path=artefacts / "stack-9-without-scripts.png")
