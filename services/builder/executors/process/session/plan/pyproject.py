"""pyproject.toml and setup.py: the project at the top of a repository, and the Python that it needs."""

import tomllib
from dataclasses import dataclass

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from services.builder.executors.process.session.errors import build_failed
from services.builder.executors.process.session.plan.build_plan import PipInstall
from services.builder.executors.process.session.plan.checkout import Checkout
from services.builder.executors.process.session.plan.refusals import quoted


@dataclass(frozen=True)
class Project:
    """What the two files say. `source` names the file by which the project is installed; None if it is not."""

    source: str | None = None
    requires_python: str | None = None
    notes: tuple[str, ...] = ()


def read_project(checkout: Checkout) -> Project:
    """Read both files; they count at the top of a repository without a binder folder. Raise `StepError`.

    repo2docker installs a project by a setup.py, or by `[project]` and `[build-system]` together.
    """
    setup = checkout.find("setup.py", at_top=True)
    path = checkout.find("pyproject.toml", at_top=True)
    source = "setup.py" if setup else None
    if not path:
        return Project(source)

    try:
        content = tomllib.loads(checkout.text(path))
    except tomllib.TOMLDecodeError as error:
        raise build_failed(f"pyproject.toml is not valid TOML: {error}") from None

    table = content.get("project")
    project = table if isinstance(table, dict) else {}
    requires_python = _specifiers(project["requires-python"]) if "requires-python" in project else None
    if source or ("project" in content and "build-system" in content):
        return Project(source or "pyproject.toml", requires_python)
    return Project(None, requires_python, _notes(content, project))


def project_install(checkout: Checkout, source: str) -> PipInstall:
    """Return the installation of the project at the top, with its dependencies."""
    return PipInstall(source=source, requirements=(checkout.repo.as_uri(),))


def _notes(content: dict[str, object], project: dict[str, object]) -> tuple[str, ...]:
    if project.get("dependencies"):
        return (
            "The dependencies in pyproject.toml are not installed, as in repo2docker: add a [build-system] to it, or "
            "list them in requirements.txt",
        )
    if "build-system" in content:
        return ("pyproject.toml is passed over, as in repo2docker: it has no [project], which an installation needs",)
    return ()


def _specifiers(requires_python: object) -> str | None:
    """Return `requires-python` in the normal form of PEP 440; None if it is empty.

    Raise `StepError` for anything else: uv would take a word for an option, a path or the name of a program. `===`
    compares any text, so it does not name a version of Python.
    """
    try:
        specifiers = SpecifierSet(requires_python) if isinstance(requires_python, str) else None
    except InvalidSpecifier:
        specifiers = None

    if specifiers is None or any(specifier.operator == "===" for specifier in specifiers):
        raise build_failed(
            f'pyproject.toml says requires-python = {quoted(requires_python)}; it must be text like ">=3.10" (PEP 440)'
        )
    return str(specifiers) or None
