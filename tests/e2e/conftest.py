"""One running Bindery for all end-to-end tests, and one forge whose repositories it launches."""

from collections.abc import Iterator

import pytest

from tests.support.forge import Forge
from tests.support.leftovers import leave_nothing
from tests.support.paths import share_packages
from tests.support.quick_jupyter import quick_jupyter_wheel
from tests.support.stack import Stack

SEATS = 3
POST_BUILD_TIMEOUT_SECONDS = 3
SERVER_START_TIMEOUT_SECONDS = 6


@pytest.fixture(scope="session")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    with Forge(tmp_path_factory.mktemp("forge")) as forge:
        yield forge


@pytest.fixture(scope="session")
def running_stack(forge: Forge, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    with Stack(
        folder / "data".ljust(160 - len(str(folder)) - 1, "-"),  # of 160 characters: its sockets must not lie in there
        base_packages=quick_jupyter_wheel(folder),
        github_url=forge.url,
        github_api_url=forge.api_url,
        allowed_origins="https://friend.example",
        seats_total=SEATS,
        build_cancel_grace_seconds=2,
        postbuild_timeout_seconds=POST_BUILD_TIMEOUT_SECONDS,
        server_start_timeout_seconds=SERVER_START_TIMEOUT_SECONDS,
        not_found_cache_seconds=0.1,
        reap_interval_seconds=0.5,
        log_level="debug",
        linger_seconds=4,
        keepalive_seconds=1,
    ) as stack:
        share_packages(stack.data_dir)
        yield stack


@pytest.fixture
def stack(running_stack: Stack, forge: Forge) -> Iterator[Stack]:
    """The running stack; after the test its servers are removed and their seats are free."""
    yield running_stack
    for fault in (forge.git_fault, forge.api_fault):
        if fault:
            fault.release()
    forge.git_fault = forge.api_fault = None
    running_stack.client.cookies.clear()  # the next test is another visitor
    leave_nothing(running_stack)
