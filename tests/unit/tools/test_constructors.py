"""Constructors with four parameters or more take them by keyword: at the fourth, a reader no longer knows the order."""

import ast
import functools

import pytest

from tests.support.paths import CHECKOUT

MOST_BY_POSITION = 3
EXEMPT = {
    "ErrorKind": "a row of a table, whose columns are read downwards",
    "Family": "a row of a table, whose columns are read downwards",
    "BoundedHttpProtocol": "uvicorn calls it by position",
}


def _by_position(node: ast.ClassDef) -> int:
    """Count the parameters that a class's constructor takes by position."""
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            return len(item.args.posonlyargs + item.args.args) - 1

    decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
    if not any("dataclass" in text and "kw_only=True" not in text for text in decorators):
        return 0

    count = 0
    for item in node.body:
        if isinstance(item, ast.AnnAssign):
            if ast.unparse(item.annotation) == "KW_ONLY":
                break
            is_parameter = "ClassVar" not in ast.unparse(item.annotation) and (
                item.value is None or "init=False" not in ast.unparse(item.value)
            )
            count += is_parameter
    return count


@functools.cache
def _constructors() -> list[tuple[str, str, int]]:
    """List file, class and count of every constructor."""
    return [
        (str(path.relative_to(CHECKOUT)), node.name, _by_position(node))
        for package in ("services", "bindery", "deploy", "tools", "tests")
        for path in sorted((CHECKOUT / package).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    ]


def test_a_constructor_with_four_parameters_takes_them_by_keyword() -> None:
    assert [
        (path, name) for path, name, count in _constructors() if count > MOST_BY_POSITION and name not in EXEMPT
    ] == []


@pytest.mark.parametrize("name", EXEMPT)
def test_an_exempt_constructor_still_needs_it(name: str) -> None:
    assert any(count > MOST_BY_POSITION for _, other, count in _constructors() if other == name)
