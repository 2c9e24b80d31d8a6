r"""Digits are 0 to 9: `\d` and `isdigit` take those of other scripts too, which what reads them then does not."""

import ast
from collections.abc import Iterator

import pytest
from pydantic import TypeAdapter, ValidationError

from services.builder.executors.docker.settings import DockerSettings
from services.gateway.routes.builds import BuildName
from services.launcher.settings import LauncherSettings
from tests.support.paths import CHECKOUT
from tests.support.settings import settings_for


def lax_patterns(tree: ast.AST) -> Iterator[ast.Constant]:
    r"""The texts with a `\d` in them that no `re.ASCII` beside them holds to ASCII; bytes know no other digits."""
    ascii_only = {
        id(inner)
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and "re.ASCII" in ast.unparse(call)
        for inner in ast.walk(call)
    }
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if "\\d" in text and id(node) not in ascii_only:
                yield node


@pytest.mark.slow
def test_no_pattern_takes_digits_of_another_script() -> None:
    lax = [
        f"{path.relative_to(CHECKOUT)}:{node.lineno}"
        for folder in ("services", "bindery", "deploy")
        for path in sorted((CHECKOUT / folder).rglob("*.py"))
        for node in lax_patterns(ast.parse(path.read_text()))
    ]
    assert not lax, "write [0-9], or compile it with re.ASCII"


def test_a_lax_pattern_would_be_found() -> None:
    for text, is_lax in ((r"re.compile(r'\d')", True), (r"re.compile(r'\d', re.ASCII)", False), (r"rb'\d'", False)):
        assert bool(list(lax_patterns(ast.parse(text)))) == is_lax


@pytest.mark.parametrize("number", ["٣", "\uff13", "²", "1\n", ""])
def test_a_builds_number_is_written_in_ascii(number: str) -> None:
    names: TypeAdapter[str] = TypeAdapter(BuildName)
    assert names.validate_python("0" * 24 + "-3")
    with pytest.raises(ValidationError):
        names.validate_python("0" * 24 + "-" + number)


@pytest.mark.parametrize("size", ["٢G", "²G", "2\N{KELVIN SIGN}"])
def test_a_size_is_written_in_ascii(size: str) -> None:
    with pytest.raises(ValidationError, match="is not a size: write 512M or 2G"):
        settings_for(LauncherSettings, {"resource_classes": {"default": {"memory_limit": size}}})
    with pytest.raises(ValidationError):
        settings_for(DockerSettings, {"executor": "docker", "build_memory_limit": size})
