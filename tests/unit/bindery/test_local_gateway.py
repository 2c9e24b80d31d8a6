"""The gateway of this machine: who gets its start token."""

from pathlib import Path

import pytest

from bindery.local_gateway import running_gateway, start_token
from tests.support.scripted_gateway import running_at


@pytest.mark.parametrize(
    "elsewhere",
    ["http://localhost:8585", "http://127.0.0.1:8586", "https://127.0.0.1:8585", "http://127.0.0.1.evil.example:8585"],
)
def test_the_data_folders_token_is_for_its_own_addresses_alone(tmp_path: Path, elsewhere: str) -> None:
    running_at(tmp_path, "http://127.0.0.1:8585")
    assert start_token("http://127.0.0.1:8585", {"BINDERY_DATA_DIR": str(tmp_path)}) == "of-the-data-folder"
    assert start_token(elsewhere, {"BINDERY_DATA_DIR": str(tmp_path)}) == ""


@pytest.mark.parametrize(
    "gateway", ["https://bindery.example", "http://10.0.0.1:8585", "http://localhost.example", "x"]
)
def test_the_environments_token_stays_on_this_machine(gateway: str) -> None:
    named = {"BINDERY_START_TOKEN": "of-the-environment"}
    assert start_token(gateway, named) == ""
    for here in ("http://127.0.0.1:8585", "http://localhost:8585", "http://[::1]:8585", "http://127.0.0.2:1"):
        assert start_token(here, named) == "of-the-environment"


@pytest.mark.parametrize(
    "record", [None, "{", "[]", '{"v": 1}', '{"gateways": 1}', '{"gateways": ["https://evil.example", 1]}']
)
def test_without_a_running_stack_there_is_no_token(tmp_path: Path, record: str | None) -> None:
    if record is not None:
        running_at(tmp_path)
        (tmp_path / "run" / "up.json").write_text(record)
    assert start_token("http://127.0.0.1:8585", {"BINDERY_DATA_DIR": str(tmp_path)}) == ""
    assert running_gateway({"BINDERY_DATA_DIR": str(tmp_path)}) == ""
