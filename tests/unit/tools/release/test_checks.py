"""What keeps a commit from being released."""

import datetime

import pytest

from tests.unit.tools.release.conftest import CHANGELOG, Checkout
from tools.release.checks import problems

TODAY = datetime.date(2026, 5, 1)


def test_a_commit_with_version_date_and_changes_can_be_released(checkout: Checkout) -> None:
    assert problems(checkout.folder, TODAY) == []


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ("0.2.0, 2026-05-01", "0.2.0, unreleased", "says that 0.2.0 is unreleased: `python3 -m tools.release prepare`"),
        ("0.2.0, 2026-05-01", "0.2.0, 1 May", "'1 May' is not a date: write it as 2026-01-31."),
        ("0.2.0, 2026-05-01", "0.2.0, 2026-05-02", "dates 0.2.0 2026-05-02, which is yet to come"),
        ("0.2.0, 2026-05-01", "0.3.0, 2026-05-01", "begins with 0.3.0, and services/common/version.py says 0.2.0"),
        ("## 0.1.0, ", "## 0.2.0, ", "has 0.2.0 above 0.2.0: the newest comes first."),
        ("## 0.1.0, ", "## 0.10.0, ", "has 0.2.0 above 0.10.0: the newest comes first."),
        (CHANGELOG[CHANGELOG.index("### Added") : CHANGELOG.index("## 0.1.0")], "", "does not say what changed"),
    ],
)
def test_a_changelog_that_tells_something_else_is_named(
    checkout: Checkout, before: str, after: str, problem: str
) -> None:
    assert before in CHANGELOG
    checkout.changelog = CHANGELOG.replace(before, after)
    checkout.commit()
    (only,) = problems(checkout.folder, TODAY)
    assert problem in only


@pytest.mark.parametrize("version", ["0.2", "v0.2.0", "0.2.0-rc.1", "0.02.0", "0.2.0rc0", "0.2.0.dev1"])
def test_a_version_of_another_form_is_refused(checkout: Checkout, version: str) -> None:
    checkout.set_version(version)
    (only,) = problems(checkout.folder, TODAY)
    assert f"{version!r} is not a version: write MAJOR.MINOR.PATCH" in only


def test_a_candidate_comes_before_its_release(checkout: Checkout) -> None:
    checkout.changelog = CHANGELOG.replace("## 0.1.0, ", "## 0.2.0rc2, ")
    checkout.commit()
    assert problems(checkout.folder, TODAY) == []


def test_what_is_not_committed_is_named(checkout: Checkout) -> None:
    for name in ("a", "b", "c", "d"):
        (checkout.folder / name).touch()
    (only,) = problems(checkout.folder, TODAY)
    assert "differs from the commit (a, b, c, …)" in only


def test_a_version_is_released_from_one_commit_only(checkout: Checkout) -> None:
    checkout.git("tag", "--annotate", "v0.2.0", "--message", "Bindery 0.2.0")
    assert problems(checkout.folder, TODAY) == []
    assert problems(checkout.folder, TODAY, "v0.2.0") == []
    checkout.commit()
    for tag in (None, "v0.2.0"):
        (only,) = problems(checkout.folder, TODAY, tag)
        assert "The tag v0.2.0 is on another commit" in only
        assert "begin the next one with `python3 -m tools.release begin VERSION`" in only


def test_the_tag_names_the_version(checkout: Checkout) -> None:
    checkout.git("tag", "v0.3.0")
    (only,) = problems(checkout.folder, TODAY, "v0.3.0")
    assert only == "The tag v0.3.0 is on a commit whose version is 0.2.0: its tag would be v0.2.0."
    (only,) = problems(checkout.folder, TODAY, "v0.2.0")
    assert only.startswith("There is no tag v0.2.0 in this clone")
