"""docs/security.md names a test behind each claim, and each test that it names is there."""

import ast
import re
from functools import cache

from tests.support.paths import CHECKOUT, TESTS

PAGE = (CHECKOUT / "docs" / "security.md").read_text()
NAMED = sorted(set(re.findall(r"`([\w/]+/test_\w+\.py)::(test_\w+)`", PAGE)))
UNPROVED = "Nothing of ours"
"""How a row begins that says what Bindery does not see to."""


@cache
def named_in(path: str) -> set[str]:
    """The tests of a file, by name, without importing it: some need a cluster."""
    if not (TESTS / path).is_file():
        return set()
    body = ast.parse((TESTS / path).read_text()).body
    return {node.name for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def rows_that_claim() -> list[list[str]]:
    """The rows of all tables whose last column is `Test`, as their cells."""
    rows = []
    is_claim = False
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            is_claim = False
        elif cells[-1] == "Test":
            is_claim = True
        elif is_claim and not set(line) <= set("|- "):
            rows.append(cells)
    return rows


def test_each_test_that_the_page_names_is_there() -> None:
    assert len(NAMED) > 100
    missing = [f"{path}::{test}" for path, test in NAMED if test not in named_in(path)]
    assert missing == [], "docs/security.md names these: put there what tests that now"


def test_each_claim_of_the_page_has_a_test() -> None:
    rows = rows_that_claim()
    assert len(rows) > 50
    bare = [cells for cells in rows if "::test_" not in cells[-1] and not cells[-2].startswith(UNPROVED)]
    assert bare == []


def test_what_looks_like_a_test_is_named_in_full() -> None:
    """`folder/file.py::test`, each in code of its own: anything else would not be looked for."""
    assert PAGE.count("::") == len(re.findall(r"`[\w/]+/test_\w+\.py::test_\w+`", PAGE))
