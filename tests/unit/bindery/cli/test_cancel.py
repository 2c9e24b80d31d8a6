"""`bindery cancel`: an id says whether it is a launch or a build."""

import pytest

from bindery.cli import main
from tests.support.scripted_gateway import Gateway

BUILD = f"{'0' * 24}-12"


@pytest.mark.parametrize(
    ("id_", "path"),
    [("l1", "/api/v1/launches/l1"), (BUILD, f"/api/v1/builds/{BUILD}"), ("a/b", "/api/v1/launches/a%2Fb")],
)
def test_cancel_tells_launches_from_builds(
    gateway: Gateway, capsys: pytest.CaptureFixture[str], id_: str, path: str
) -> None:
    assert main(["cancel", id_, "--gateway", gateway.url]) == 0
    assert gateway.deletions == [(path, None)]
    assert capsys.readouterr() == ("", "")


def test_an_operator_cancels_a_build_with_a_token(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINDERY_OPERATOR_TOKEN", "of-the-operator")
    assert main(["cancel", BUILD, "--gateway", gateway.url]) == 0
    assert gateway.deletions == [(f"/api/v1/builds/{BUILD}", "of-the-operator")]


def test_cancelling_an_ended_launch_succeeds_and_an_ended_build_fails(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway.refusal = (409, {"title": "It has ended", "code": "conflict"})
    assert main(["cancel", "l1", "--gateway", gateway.url]) == 0
    assert main(["cancel", BUILD, "--gateway", gateway.url]) == 1
    assert capsys.readouterr().err == "bindery: It has ended [conflict]\n"
