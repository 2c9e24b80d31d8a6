"""Components that a developer runs by hand: `up --without gateway` writes their environment and says how to start them.

The environment holds secrets, so it goes into a file that its owner alone may read, and never to the terminal. A
debugger reads the same file (`envFile` in VS Code).
"""

import shlex
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from deploy.local.components import Component
from deploy.local.processes import write_atomically
from deploy.local.run_record import ENVIRONMENT_SUFFIX
from deploy.local.settings import CHECKOUT, KINDS, StartupError
from deploy.local.variables import read_by

DEV_MODE = "BINDERY_DEV_MODE"


@dataclass(frozen=True)
class Division:
    """The components that `up` runs, and those that are run by hand."""

    by_up: list[Component]
    by_hand: list[Component]


def check_kinds(names: Iterable[str]) -> frozenset[str]:
    """Return the kinds of components in `names`, of which each may hold several, with commas between them.

    Raise `StartupError` for a name that is not a kind of component.
    """
    kinds = [kind.strip() for name in names for kind in name.split(",") if kind.strip()]
    for kind in kinds:
        if kind not in KINDS:
            raise StartupError(f"There is no component {kind!r} to leave out: use some of {', '.join(KINDS)}.")

    return frozenset(kinds)


def divide(components: Iterable[Component], without: Collection[str]) -> Division:
    """Divide the components by whether their kind is in `without`."""
    division = Division([], [])
    for component in components:
        side = division.by_hand if component.kind in without else division.by_up
        side.append(component)

    return division


def independent_of(by_hand: Iterable[Component], components: Iterable[Component]) -> list[Component]:
    """Return those of `components` that can become healthy while none of `by_hand` runs."""
    missing_kinds = {component.kind for component in by_hand}
    remaining = list(components)

    while dependent := [c for c in remaining if missing_kinds.intersection((*c.after, *c.needs))]:
        missing_kinds |= {component.kind for component in dependent}
        remaining = [component for component in remaining if component not in dependent]

    return remaining


def write_instructions(by_hand: Iterable[Component], run_dir: Path) -> list[str]:
    """Write a file with the environment of each component, and return the lines that tell how to start them."""
    lines = []
    for component in by_hand:
        path = _write_environment(component, run_dir)
        lines += [
            f"To run {component.name} by hand, in another terminal:",
            f"  {_command_line(component, path)}",
            f"Its environment, with secrets, is in {path}: a debugger can read that file, too.",
        ]

    return lines


def _write_environment(component: Component, run_dir: Path) -> Path:
    environment = dict(component.environment)
    if DEV_MODE in read_by(component.kind):
        environment.setdefault(DEV_MODE, "true")

    path = run_dir / f"{component.name}{ENVIRONMENT_SUFFIX}"
    lines = [f"{name}={shlex.quote(value)}\n" for name, value in sorted(environment.items())]
    write_atomically(path, "".join(lines))
    return path


def _command_line(component: Component, environment_file: Path) -> str:
    """Return a command for a subshell, so that the secrets don't stay in the developer's shell."""
    steps = [
        f"cd {shlex.quote(str(CHECKOUT))}",
        "set -a",
        f". {shlex.quote(str(environment_file))}",
        f"exec {shlex.join(component.command)}",
    ]
    return f"({' && '.join(steps)})"
