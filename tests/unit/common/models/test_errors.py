"""Error codes: one closed list, which the type checker knows too."""

import ast
from typing import get_args

import pytest

from services.common.models import Problem
from services.common.models.error_codes import KINDS, ErrorCode, known_code
from services.common.models.errors import BinderyError
from tests.support.paths import CHECKOUT


def test_the_type_lists_every_code_once_in_the_order_of_the_table() -> None:
    assert list(get_args(ErrorCode)) == list(KINDS)


def test_a_code_outside_the_list_is_refused() -> None:
    with pytest.raises(KeyError):
        BinderyError("build_faild")  # type: ignore[arg-type]  # and mypy says so


def test_a_code_of_a_newer_release_is_kept_in_a_record_and_unknown_as_an_exception() -> None:
    problem = Problem.model_validate_json('{"title": "New", "status": 503, "code": "of_tomorrow", "detail": "So."}')

    assert problem.code == "of_tomorrow"
    assert not problem.has_code("unknown")
    assert (BinderyError.of(problem).code, BinderyError.of(problem).detail) == ("unknown", "So.")
    assert known_code("of_tomorrow", otherwise="build_failed") == "build_failed"


def test_codes_are_compared_by_has_code_which_the_type_checker_follows() -> None:
    """`error.code in {"typo"}` would be a branch that is never taken: mypy says nothing."""
    comparisons = []
    for path in sorted((CHECKOUT / "services").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Compare):
                continue
            is_of_code = isinstance(node.left, ast.Attribute) and node.left.attr == "code"
            has_text = any(isinstance(part, ast.Constant) and isinstance(part.value, str) for part in ast.walk(node))
            if is_of_code and has_text:
                comparisons.append(f"{path.relative_to(CHECKOUT)}:{node.lineno}")
    assert comparisons == []
