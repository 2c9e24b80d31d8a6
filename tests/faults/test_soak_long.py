"""The soak of `make load`, in a short form."""

import asyncio
from pathlib import Path

import pytest

from tests.load import soak
from tests.load.table import render

MINUTES = 5.0


@pytest.mark.long
@pytest.mark.timeout(1100)
def test_random_launches_and_faults_lose_nothing_and_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BINDERY_START_TOKEN", "start-token-of-the-soak")
    rows = asyncio.run(soak.measure(tmp_path / "soak", minutes=MINUTES, seed=1, say=print))
    print(render(rows))
    failed = [row for row in rows if row.failed]
    assert not failed, render(failed)
