"""`make watch` finds the tests of a changed file by its path."""

from pathlib import Path

import pytest

from tools.watch import tests_of as found_for


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with a few tests."""
    for name in (
        "gateway/launches/test_links.py",
        "gateway/launches/test_links_of_forges.py",
        "deploy/local/test_up.py",
    ):
        path = tmp_path / "tests" / "unit" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("from tests.support.stack import Stack\n")
    return tmp_path


@pytest.mark.parametrize(
    ("changed", "tests"),
    [
        (
            "services/gateway/launches/links.py",
            {"gateway/launches/test_links.py", "gateway/launches/test_links_of_forges.py"},
        ),
        ("services/gateway/launches/landing.py", {"gateway/launches"}),
        ("services/gateway/pages/templates/home.html", {"gateway"}),
        ("services/resolver/routes.py", {"."}),
        ("deploy/local/up.py", {"deploy/local/test_up.py"}),
        ("tests/unit/deploy/local/test_up.py", {"deploy/local/test_up.py"}),
        ("tests/unit/deploy/local/test_that_was_deleted.py", set()),
        ("tests/unit/conftest.py", {"."}),
        (
            "tests/support/stack.py",
            {
                "gateway/launches/test_links.py",
                "gateway/launches/test_links_of_forges.py",
                "deploy/local/test_up.py",
            },
        ),
        ("tests/support/sta.py", set()),
        ("tests/e2e/conftest.py", set()),
    ],
)
def test_a_changed_file_has_the_tests_that_mirror_it(checkout: Path, changed: str, tests: set[str]) -> None:
    assert found_for(Path(changed), checkout) == {Path("tests/unit") / name for name in tests}
