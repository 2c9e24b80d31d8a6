"""What holds for every test: in CI a skipped test is a failed one, and long tests run only if they are asked for."""

import os
from typing import Any

import pytest
import structlog

from tests.support import long_tests
from tests.support.parallel import FilesAndUnitTests

# A traceback drawn with every local variable takes the loop half a second and more: leases of tests are as short.
_renderer = structlog.get_config()["processors"][-1]
assert isinstance(_renderer, structlog.dev.ConsoleRenderer)
_renderer.exception_formatter = structlog.dev.plain_traceback


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return how many workers `-n auto` starts: two more than cores, because tests wait for half of their time."""
    return (os.cpu_count() or 1) + 2


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FilesAndUnitTests:
    """Return what spreads the tests over the workers."""
    return FilesAndUnitTests(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the long tests, unless they are asked for."""
    if not long_tests.are_requested(config):
        long_tests.deselect(config, items)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table of a run of the long tests."""
    if long_tests.are_selected(config):
        terminalreporter.section("long tests")
        terminalreporter.write_line(long_tests.table(terminalreporter))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail a run with a skipped test in CI, and one of the long tests anywhere: a skipped test proves nothing there."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    counts = bool(os.environ.get("CI")) or long_tests.are_selected(session.config)
    if reporter and counts and skipped and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter.write_line(f"{len(skipped)} tests were skipped, which counts as failed here.", red=True)
