"""Headless Chromium, the pages around scripted launches, and the whole stack or another running Bindery."""

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

import pytest
import uvicorn
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from tests.support.fake_gateway import fake_gateway
from tests.support.fake_launches import FakeLaunches
from tests.support.forge import Forge
from tests.support.launching import start_token_at
from tests.support.paths import TESTS
from tests.support.polling import eventually
from tests.support.stack import Stack, free_ports

ARTEFACTS = TESTS / "artefacts"
NOTEBOOK = """{"cells": [{"cell_type": "code", "id": "a1", "metadata": {}, "execution_count": null, "outputs": [],
"source": ["import colorama\\n", "print(6 * 7)"]}], "metadata": {"kernelspec": {"name": "python3",
"display_name": "Python 3", "language": "python"}}, "nbformat": 4, "nbformat_minor": 5}"""

OpenPage = Callable[..., Page]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--target", default=os.environ.get("BINDERY_TEST_TARGET", ""), help="a running Bindery's address")


def chromium() -> str:
    """Return the browser of the machine; BINDERY_TEST_CHROMIUM names another."""
    names = (os.environ.get("BINDERY_TEST_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, filter(None, names))), None)
    assert program, "These tests need Chromium: install it, or name it in BINDERY_TEST_CHROMIUM."
    return program


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # Root in a container has no sandbox; what the browser opens here is our own.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=chromium(), args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Opens pages in a browser session of their own. At the end no script may have failed."""
    failures: list[str] = []
    contexts = []

    def open_page(
        address: str, *, width: int = 1280, height: int = 900, dark: bool = False, scripts: bool = True
    ) -> Page:
        context = browser.new_context(
            viewport=ViewportSize(width=width, height=height),
            color_scheme="dark" if dark else "light",
            java_script_enabled=scripts,
        )
        contexts.append(context)
        if token := start_token_at(address) or os.environ.get("BINDERY_START_TOKEN", ""):
            context.request.get(urljoin(address, f"/?token={token}"))  # the printed address has been opened before
        page = context.new_page()
        page.on("pageerror", lambda error: failures.append(str(error)))
        page.on(
            "console",
            lambda message: failures.append(message.text) if "Content Security Policy" in message.text else None,
        )
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert failures == []


@dataclass
class FakeGateway:
    """The pages of a gateway whose launches follow a script: see `FakeLaunches`."""

    url: str
    launches: FakeLaunches


@contextmanager
def serve_fake_gateway(server_url: str = "", **settings: object) -> Iterator[FakeGateway]:
    """Serve the pages. A launch that is ready leads to `server_url`, or to a server that the gateway plays itself."""
    port = free_ports()
    url = f"http://127.0.0.1:{port}"
    launches = FakeLaunches(server_url or f"{url}/user/u/")
    hub_url = launches.server_url.partition("user/")[0]
    app = fake_gateway(launches, **{"public_url": url, "hub_url": hub_url, "listen_port": port} | settings)
    server = uvicorn.Server(
        uvicorn.Config(app, port=port, log_config=None, proxy_headers=False, timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    eventually(lambda: server.started, "the pages are served")
    yield FakeGateway(url, launches)
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    with serve_fake_gateway() as gateway:
        yield gateway


@dataclass(frozen=True)
class Target:
    """A whole Bindery, and repositories that it can launch: provider, repository."""

    url: str
    good: tuple[str, str]
    broken: tuple[str, str]


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """The Bindery at `--target`, or `bindery up` with a forge of its own.

    The repositories for `--target` are BINDERY_TEST_REPO and BINDERY_TEST_BROKEN_REPO, git URLs; the first has
    `a b.ipynb`, whose first cell prints 42.
    """
    if address := request.config.getoption("--target"):
        good, broken = (os.environ.get(f"BINDERY_TEST_{name}", "") for name in ("REPO", "BROKEN_REPO"))
        assert good, "--target needs BINDERY_TEST_REPO"
        yield Target(str(address).rstrip("/"), ("git", good), ("git", broken))
        return
    folder = tmp_path_factory.mktemp("browser")
    with Forge(folder / "forge") as forge:
        forge.create_repo("org", "notebook", {"requirements.txt": "colorama==0.4.6\n", "a b.ipynb": NOTEBOOK})
        forge.create_repo("org", "broken", {"requirements.txt": "no-such-package-at-all==1\n"})
        settings = {"github_url": forge.url, "github_api_url": forge.api_url}
        with Stack(folder / "data", **settings) as stack:
            yield Target(stack.url, ("gh", f"{forge.url}/org/notebook"), ("gh", "org/broken"))


@pytest.fixture(scope="session")
def artefacts() -> Path:
    """Where screenshots are kept for a look."""
    ARTEFACTS.mkdir(exist_ok=True)
    return ARTEFACTS
