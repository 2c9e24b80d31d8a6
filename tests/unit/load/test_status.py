"""The benchmark's exit status: it is not a success if builds or launches failed."""

import argparse
import signal
from pathlib import Path

import pytest

from tests.load import __main__ as load
from tests.load.builds import Cost
from tests.load.client import Outcome
from tests.load.launches import Run
from tests.load.table import Row


def run_with(rows: list[Row], monkeypatch: pytest.MonkeyPatch) -> object:
    """What the command ends with when it has measured this."""

    async def measured(_options: argparse.Namespace, _folder: Path) -> list[Row]:
        return rows

    monkeypatch.setattr(load, "_measure", measured)
    monkeypatch.setattr("sys.argv", ["load"])
    monkeypatch.setenv("BINDERY_START_TOKEN", "")  # it names one of its own, which no later test is to show
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        load.main()
    except SystemExit as ended:
        return ended.code
    finally:
        signal.signal(signal.SIGTERM, on_sigterm)
    return None


def builds_of(not_built: int) -> list[Row]:
    return Cost(
        builds=20,
        seconds=10.0,
        queued=[1.0, 2.0],
        handover_seconds=[0.1, 0.2],
        redis=100.0,
        cpu={"api": 1.0},
        api_server=100.0,
        not_built=not_built,
    ).rows()


def launches_of(*phases: str) -> list[Row]:
    return [Run([Outcome(0.1, phase) for phase in phases], 1.0).latency("alone")]


def test_a_benchmark_whose_builds_and_launches_end_well_ends_well(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_with(builds_of(0) + launches_of("ready", "ready"), monkeypatch) is None


def test_a_benchmark_with_failed_builds_or_launches_fails_and_says_how_many(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status = run_with(builds_of(20) + launches_of("ready", "failed"), monkeypatch)
    assert str(status).startswith("21 builds or launches failed")
    assert "20 not built" in capsys.readouterr().out  # the table is printed all the same
    assert run_with(builds_of(1), monkeypatch)
    assert run_with(launches_of("failed"), monkeypatch)
