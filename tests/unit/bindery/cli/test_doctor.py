"""`bindery doctor`."""

import pytest

from bindery import doctor
from bindery.cli import main
from bindery.doctor import Finding


@pytest.mark.parametrize(("is_well", "status", "mark"), [(True, 0, "ok  "), (False, 1, "FAIL")])
def test_it_prints_the_table_and_fails_if_something_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], is_well: bool, status: int, mark: str
) -> None:
    monkeypatch.setattr(doctor, "run_checks", lambda _settings: [Finding("git", is_well, "2.39")])
    assert main(["doctor"]) == status
    assert capsys.readouterr() == (f"{mark}  git  2.39\n", "")
