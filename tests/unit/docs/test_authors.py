"""docs/authors.md and the cases of tests/repositories speak of the same things."""

import re

import pytest

from tests.support.cases import Case, all_cases
from tests.support.paths import CHECKOUT

CASES = all_cases()
CODE = re.compile(r"`([^`]+)`")


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("| \n").split(" | ")]


def rows_with_cases() -> list[list[str]]:
    """The rows of every table whose last column is `Cases`."""
    rows: list[list[str]] = []
    is_inside = False
    for line in (CHECKOUT / "docs" / "authors.md").read_text().splitlines():
        if not line.startswith("|"):
            is_inside = False
        elif is_inside:
            rows.append(cells(line))
        else:
            is_inside = cells(line)[-1] == "Cases"
    return [row for row in rows if not set("".join(row)) <= set("-:| ")]


def test_each_row_names_a_case_and_each_case_is_in_a_row() -> None:
    rows = rows_with_cases()
    assert len(rows) > 20
    without_a_case = [row for row in rows if not CODE.findall(row[-1])]
    named = {name for row in rows for name in CODE.findall(row[-1])}
    existing = {case.name for case in CASES}
    assert (without_a_case, named - existing, existing - named) == ([], set(), set())


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.name))
def test_a_case_says_what_must_come_of_it_with_each_executor(case: Case) -> None:
    for executor in case.options.executors:  # which fails for a field of case.toml that there is not
        assert case.problem(executor) or case.programs, "neither verify nor error"
    if (case.folder / "verify").exists():
        assert (case.folder / "verify").stat().st_mode & 0o111, "verify must be executable"
