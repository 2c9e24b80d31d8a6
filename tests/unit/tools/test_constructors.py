"""Constructors with four parameters or more take them by keyword: at the fourth, a reader no longer knows the order."""

import ast
from collections.abc import Iterable, Iterator

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


def _classes(body: Iterable[ast.stmt]) -> Iterator[ast.ClassDef]:
    """Yield the classes of a module, with those inside them. Function bodies are not read, which takes most time."""
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield node
            yield from _classes(node.body)


def _constructors() -> Iterator[tuple[str, str, int]]:
    """Yield file, class and count of every constructor."""
    for package in ("services", "bindery", "deploy", "tools", "tests"):
        for path in sorted((CHECKOUT / package).rglob("*.py")):
            text = path.read_text()
            if not ("def __init__" in text or "dataclass" in text):
                continue  # parsing takes most time
            for node in _classes(ast.parse(text).body):
                yield str(path.relative_to(CHECKOUT)), node.name, _by_position(node)


def test_a_constructor_with_four_parameters_takes_them_by_keyword_unless_it_is_exempt() -> None:
    by_position = [(path, name) for path, name, count in _constructors() if count > MOST_BY_POSITION]
    assert [(path, name) for path, name in by_position if name not in EXEMPT] == []
    assert {name for _, name in by_position} == set(EXEMPT), "an exemption that nothing needs"
