"""What the tests of a whole small stack share: its folder and its port."""

from pathlib import Path

import pytest

from tests.support.ports import free_ports


@pytest.fixture
def port() -> int:
    return free_ports(1, avoid=set())[0]


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"
