"""Waiting for a builder, and building again, in a browser and on the whole stack; with scripts and without."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.accessibility import violations
from tests.browser.conftest import OpenPage
from tests.support.api_launches import ApiLaunch, git_spec
from tests.support.forge import Forge
from tests.support.quick_jupyter import quick_jupyter_wheel
from tests.support.stack import Stack

MINUTE = 60_000


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    with Forge(tmp_path_factory.mktemp("forge")) as forge:
        yield forge


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack that builds one thing at a time."""
    folder = tmp_path_factory.mktemp("narrow")
    packages = quick_jupyter_wheel(folder)
    with Stack(folder / "data", base_packages=packages, build_slots=1, build_cancel_grace_seconds=0.2) as stack:
        yield stack


def launch(page: Page, stack: Stack, spec: str) -> str:
    """Launch by the link's page; the launch's id."""
    page.goto(f"{stack.url}/v2/git/{spec}")
    page.get_by_role("button", name="Launch").click()
    page.wait_for_url("**/launches/*")
    return page.url.rpartition("/")[2]


@pytest.mark.timeout(300)
def test_the_page_tells_the_place_as_it_changes(
    stack: Stack, forge: Forge, open_page: OpenPage, tmp_path: Path, artefacts: Path
) -> None:
    gate = tmp_path / "gate"
    script = f"#!/bin/sh\necho it runs\nwhile [ ! -e '{gate}' ]; do sleep 0.05; done\n"
    specs = {}
    for name in ("first", "second", "third"):
        forge.create_repo("places", name, {"postBuild": script})
        specs[name] = git_spec(f"{forge.url}/places/{name}")
    ApiLaunch.begin(stack, specs["first"]).stream.until_message("it runs\n")
    second = ApiLaunch.begin(stack, specs["second"])
    second.stream.until_message("place 1 of 1")

    page = open_page(stack.url)
    launch_id = launch(page, stack, specs["third"])
    headline = page.get_by_role("heading", level=1)
    explanation = page.locator("#explanation")
    expect(headline).to_have_text("Waiting for a builder: number 2 in the queue")
    expect(explanation).to_have_text("All builders are busy.")
    assert violations(page) == []
    page.screenshot(path=artefacts / "queue-1-second.png", full_page=True)
    plain = open_page(f"{stack.url}/launches/{launch_id}", scripts=False)
    expect(plain.get_by_role("heading", level=1)).to_have_text("Waiting for a builder: number 2 in the queue")
    expect(plain.locator("#explanation")).to_have_text("All builders are busy.")

    second.cancel()
    expect(headline).to_have_text("Waiting for a builder: number 1 in the queue")
    expect(page.get_by_role("status")).to_have_text("Waiting for a builder: number 1 in the queue")
    expect(plain.get_by_role("heading", level=1)).to_have_text("Waiting for a builder: number 1 in the queue")
    expect(page.locator("#log")).not_to_contain_text("place")
    gate.touch()
    expect(headline).not_to_contain_text("queue", timeout=MINUTE)
    expect(explanation).to_be_hidden()
    page.wait_for_url("**/user/**", timeout=MINUTE)


@pytest.mark.timeout(300)
def test_a_failure_that_is_remembered_is_built_again_with_scripts_and_without(
    stack: Stack, forge: Forge, open_page: OpenPage
) -> None:
    forge.create_repo("places", "fails", {"postBuild": "#!/bin/sh\necho this is why\nexit 1\n"})
    spec = git_spec(f"{forge.url}/places/fails")
    with_scripts = open_page(stack.url)
    without = open_page(stack.url, scripts=False)

    def failed(page: Page, launch_id: str) -> str:
        """Wait until the page says that the build failed; the build's id."""
        expect(page.get_by_role("heading", level=1)).to_have_text("The build failed", timeout=MINUTE)
        expect(page.locator(".trouble")).to_contain_text("postBuild ended with exit status 1")
        return str(stack.launch(launch_id)["build_id"])

    def build_again(page: Page) -> str:
        before = page.url
        page.get_by_role("button", name="Build again").click()
        page.wait_for_url(lambda url: url != before and re.search("/launches/[^/]+$", url) is not None)
        return page.url.rpartition("/")[2]

    first = failed(with_scripts, launch(with_scripts, stack, spec))
    assert first.endswith("-1")
    assert failed(without, launch(without, stack, spec)) == first  # at once, with its log
    assert "this is why" in stack.client.get(without.get_by_role("link", name="All of it").evaluate("a => a.href")).text

    image = first.removesuffix("1")
    assert failed(with_scripts, build_again(with_scripts)) == image + "2"
    assert failed(without, build_again(without)) == image + "2"  # its page still offered to replace the first one
    expect(without.get_by_role("button", name="Build again")).to_be_visible()
    assert failed(without, build_again(without)) == image + "3"
