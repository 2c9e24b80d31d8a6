"""`bindery url`."""

from pathlib import Path

import pytest

from bindery.cli import main
from deploy.local.settings import Settings
from tests.support.ports import free_ports
from tests.support.small_stack import STAYS, SmallStack


@pytest.mark.slow
def test_url_prints_the_address_with_the_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(data_dir=tmp_path / "data", port=free_ports(1, avoid=set())[0])
    monkeypatch.setenv("BINDERY_DATA_DIR", str(settings.data_dir))
    assert main(["url"]) == 1
    output = capsys.readouterr().err
    assert (
        f"No Bindery runs with the data folder {settings.data_dir}: `make up` starts it, or BINDERY_DATA_DIR" in output
    )
    with SmallStack(settings.data_dir, settings.port, {"gateway": STAYS}).until_ready():
        token = (settings.run_dir / "start-token").read_text()
        assert main(["url"]) == 0
    assert capsys.readouterr().out == f"{settings.url}/?token={token}\n"
