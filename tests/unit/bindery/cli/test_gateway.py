"""Which gateway a command asks, and what it says about the start token."""

from pathlib import Path

import pytest

from bindery.cli import main
from bindery.client import Client
from tests.support.scripted_gateway import READY, Gateway, event, line, running_at


def test_without_an_address_the_gateway_of_the_data_folder_is_asked(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    running_at(tmp_path, gateway.url, "http://127.0.0.1:1")
    monkeypatch.setenv("BINDERY_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("BINDERY_GATEWAY_URL", raising=False)
    assert main(["launch", "gh/a/b/HEAD", "--detach"]) == 0
    assert gateway.authorizations == ["Bearer of-the-data-folder"]
    monkeypatch.setenv("BINDERY_GATEWAY_URL", "http://127.0.0.1:1")
    assert main(["launch", "gh/a/b/HEAD", "--detach"]) == 1
    assert len(gateway.authorizations) == 1


@pytest.mark.slow
def test_every_request_shows_the_token_of_the_data_folder(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    running_at(tmp_path, "http://127.0.0.1:8585", gateway.url)
    monkeypatch.setenv("BINDERY_DATA_DIR", str(tmp_path))
    gateway.streams = [line(1), event(2, READY)]
    assert main(["launch", "git/x/HEAD", "--gateway", f"{gateway.url}/"]) == 0
    assert gateway.authorizations == ["Bearer of-the-data-folder"] * 3
    monkeypatch.setenv("BINDERY_START_TOKEN", "of-the-environment")
    main(["queue", "--gateway", gateway.url])
    with Client(gateway.url, token="of-the-program") as bindery:
        bindery.launch("git", "x/HEAD")
    assert gateway.authorizations[3:] == ["Bearer of-the-environment", "Bearer of-the-program"]


def test_a_user_without_the_token_is_told_where_to_find_it(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    detail = "Open the address that `make up` printed."
    problem: dict[str, object] = {"title": "The start token is required", "detail": detail}
    gateway.refusal = (401, problem | {"code": "start_token_required"})
    assert main(["launch", "gh/a/b/HEAD", "--gateway", gateway.url]) == 1
    err = capsys.readouterr().err
    assert detail in err
    assert f"BINDERY_DATA_DIR names the data folder of the Bindery that runs at {gateway.url}" in err
