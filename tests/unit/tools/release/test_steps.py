"""The steps as they are typed."""

import datetime
import subprocess
import sys

import pytest

from tests.support.bare_repos import git_environment
from tests.support.paths import CHECKOUT
from tests.unit.tools.release.conftest import CHANGELOG, Checkout


def step(checkout: Checkout, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a step in a checkout, with Python and git alone."""
    environ = git_environment(checkout.folder) | {"PYTHONPATH": str(CHECKOUT)}
    return subprocess.run(
        [sys.executable, "-S", "-m", "tools.release", *arguments],
        cwd=checkout.folder, env=environ, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_from_one_release_to_the_next(checkout: Checkout) -> None:
    assert step(checkout, "version").stdout == "0.2.0\n"
    assert step(checkout, "begin", "0.3.0").returncode == 0
    assert step(checkout, "version").stdout == "0.3.0\n"
    assert checkout.chart.read_text() == "name: bindery\nversion: 0.3.0\nappVersion: 0.3.0\n"
    assert checkout.changelog == CHANGELOG.replace("## 0.2.0", "## 0.3.0, unreleased\n\n## 0.2.0")
    checkout.commit()

    refused = step(checkout, "check")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert [line.partition(":")[0] for line in refused.stderr.splitlines()] == [
        "CHANGELOG.md says that 0.3.0 is unreleased",
        "CHANGELOG.md does not say what changed in 0.3.0",
    ]

    checkout.changelog = checkout.changelog.replace("unreleased\n", "unreleased\n\n- Another thing.\n")
    assert step(checkout, "prepare").returncode == 0
    dates = {datetime.datetime.now(datetime.UTC).date() - datetime.timedelta(days=days) for days in (0, 1)}
    assert any(f"## 0.3.0, {date}\n" in checkout.changelog for date in dates)
    checkout.commit()
    checkout.git("tag", "v0.3.0")
    allowed = step(checkout, "check", "--tag", "v0.3.0")
    assert (allowed.returncode, allowed.stdout, allowed.stderr) == (0, "0.3.0 can be released.\n", "")
    assert step(checkout, "notes").stdout == "- Another thing.\n"
    assert step(checkout, "notes", "0.1.0").stdout == "The first release.\n"


def test_a_candidates_chart_has_a_version_in_helms_form(checkout: Checkout) -> None:
    assert step(checkout, "begin", "0.3.0rc1").returncode == 0
    assert checkout.chart.read_text() == "name: bindery\nversion: 0.3.0-rc1\nappVersion: 0.3.0rc1\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["prepare"], "CHANGELOG.md says that 0.2.0 was released: 2026-05-01. Begin the next version first."),
        (["begin", "0.2.0"], "0.2.0 is not later than 0.2.0, with which CHANGELOG.md begins."),
        (["begin", "next"], "'next' is not a version"),
        (["notes", "7.0.0"], "CHANGELOG.md has no section for 7.0.0."),
    ],
)
def test_a_step_that_makes_no_sense_changes_nothing(checkout: Checkout, arguments: list[str], sentence: str) -> None:
    result = step(checkout, *arguments)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(sentence)
    assert len(result.stderr.splitlines()) == 1
    assert checkout.git("status", "--porcelain") == ""


def test_outside_a_checkout_one_line_says_so(checkout: Checkout) -> None:
    (checkout.folder / "services" / "common" / "version.py").unlink()
    result = step(checkout, "version")
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        'services/common/version.py has no line `VERSION = "…"`: run this in a checkout of Bindery.'
    ]
