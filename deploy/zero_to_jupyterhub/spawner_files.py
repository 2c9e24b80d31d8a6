"""The modules of `deploy/jupyterhub` that a hub needs to start pods, found by what they import."""

import ast
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
_CONFIGURATION = "deploy.jupyterhub.config_kubernetes"


def spawner_files() -> dict[str, str]:
    """Return the text of each module that `config_kubernetes` needs, by its path in the checkout, sorted.

    Only imports at the top of a module count: one inside a function is for hubs that call the function.
    """
    texts: dict[Path, str] = {}
    waiting = [_CONFIGURATION]
    while waiting:
        for path in _files_of(waiting.pop()):
            if path not in texts:
                texts[path] = path.read_text(encoding="utf-8")
                waiting += _imports_of(texts[path])
    return {path.relative_to(CHECKOUT).as_posix(): texts[path] for path in sorted(texts)}


def _files_of(module: str) -> Iterator[Path]:
    """Yield the files that importing `module` reads, those of its packages first; a name that is no module has none."""
    names = module.split(".")
    for length in range(1, len(names) + 1):
        path = CHECKOUT.joinpath(*names[:length])
        for file in (path / "__init__.py", path.with_suffix(".py")):
            if file.is_file():
                yield file


def _imports_of(text: str) -> Iterator[str]:
    """Yield what a module imports of `deploy`: modules, and names that may be modules."""
    for statement in ast.parse(text).body:
        if isinstance(statement, ast.Import):
            modules = [alias.name for alias in statement.names]
        elif isinstance(statement, ast.ImportFrom):
            modules = [f"{statement.module}.{alias.name}" for alias in statement.names]
        else:
            continue
        yield from (module for module in modules if module.startswith("deploy."))
