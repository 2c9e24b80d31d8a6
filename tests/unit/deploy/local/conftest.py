"""What tests of the embedded stack share: a folder and a port, and no setting of the one who runs them."""

from pathlib import Path

import pytest

from tests.support.ports import free_ports


@pytest.fixture
def port() -> int:
    return free_ports(1, avoid=set())[0]


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BINDERY_DATA_DIR", "BINDERY_PORT", "BINDERY_HOST", "BINDERY_START_TOKEN", "BINDERY_ALLOWED_ORIGINS"):
        monkeypatch.delenv(name, raising=False)
