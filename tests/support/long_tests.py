"""Tests that are too long for each landing (marker `long`): when they run, and the table of their outcomes."""

import pytest

_OUTCOMES = ("passed", "failed", "error", "skipped", "xfailed", "xpassed")


def are_selected(config: pytest.Config) -> bool:
    """Return whether this is a run of the long tests alone: `-m long`, as `make test-long` has it."""
    return str(config.option.markexpr) == "long"


def are_requested(config: pytest.Config) -> bool:
    """Return whether long tests run: an expression of markers mentions them, or a test is called by its name."""
    return "long" in str(config.option.markexpr).split() or any("::" in argument for argument in config.args)


def deselect(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take the long tests out of `items`."""
    left_out = [item for item in items if item.get_closest_marker("long")]
    items[:] = [item for item in items if not item.get_closest_marker("long")]
    config.hook.pytest_deselected(items=left_out)


def table(reporter: pytest.TerminalReporter) -> str:
    """Return a line for each test: its name, its outcome, and its seconds with those of its fixtures."""
    outcomes: dict[str, str] = {}
    seconds: dict[str, float] = {}
    for outcome in _OUTCOMES:
        for report in reporter.stats.get(outcome, []):
            outcomes[report.nodeid] = _worse(outcomes.get(report.nodeid, "passed"), outcome)
    for reports in reporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                seconds[report.nodeid] = seconds.get(report.nodeid, 0.0) + report.duration

    width = max((len(name) for name in outcomes), default=0)
    lines = [f"{name:<{width}}  {outcome:<7}  {seconds.get(name, 0.0):6.0f} s" for name, outcome in outcomes.items()]
    return "\n".join([*lines, f"{'all':<{width}}  {'':<7}  {sum(seconds.values()):6.0f} s"])


def _worse(one: str, other: str) -> str:
    return one if one in {"failed", "error"} else other
