"""Run the tests of what changes, each time a file is saved: `make watch`, which passes ARGS on to pytest.

`tests/unit` mirrors the source, so the tests of a file are found by its path. Tests that failed run again with each
change until they pass.
"""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from watchfiles import watch

CHECKOUT = Path(__file__).resolve().parents[1]
WATCHED = ("bindery", "deploy", "docs", "services", "tests", "tools")
UNIT = Path("tests/unit")
SUPPORT = Path("tests/support")


def tests_of(changed: Path, checkout: Path) -> set[Path]:
    """Return the test modules and folders for a changed file; all paths are relative to the checkout."""
    if changed.is_relative_to(SUPPORT):
        return _importers_of(changed, checkout)
    if changed.is_relative_to("tests"):
        if changed.name.startswith("test_"):
            return {changed} if (checkout / changed).exists() else set()
        return {changed.parent} if changed.is_relative_to(UNIT) else set()

    below_services = changed.parts[0] == "services"
    folder = UNIT.joinpath(*changed.parent.parts[1 if below_services else 0 :])
    own = {path.relative_to(checkout) for path in (checkout / folder).glob(f"test_{changed.stem}*.py")}
    return own or {_nearest(folder, checkout)}


def _importers_of(changed: Path, checkout: Path) -> set[Path]:
    """Return the unit tests that import a module of tests/support."""
    module = f"tests.support.{changed.stem} "
    modules = (checkout / UNIT).rglob("test_*.py")
    return {path.relative_to(checkout) for path in modules if module in path.read_text(encoding="utf-8")}


def _nearest(folder: Path, checkout: Path) -> Path:
    """Return `folder`, or the closest one above it that exists."""
    while not (checkout / folder).is_dir():
        folder = folder.parent
    return folder


def run(targets: Iterable[Path], arguments: list[str]) -> bool:
    """Run tests, those first that failed the last time; return whether all passed."""
    names = sorted(map(str, targets))
    print(f"\n--- {' '.join(names)}", flush=True)
    command = [sys.executable, "-m", "pytest", "-q", "--failed-first", *arguments, *names]
    return subprocess.run(command, cwd=CHECKOUT, check=False).returncode == 0


def main(arguments: list[str]) -> None:
    """Watch until Ctrl-C."""
    print(f"Watching {', '.join(WATCHED)}; Ctrl-C ends it.", flush=True)
    to_run: set[Path] = set()
    for changes in watch(*(CHECKOUT / name for name in WATCHED), raise_interrupt=False):
        for _, path in changes:
            to_run |= tests_of(Path(path).relative_to(CHECKOUT), CHECKOUT)
        to_run = {target for target in to_run if (CHECKOUT / target).exists()}
        if to_run and run(to_run, arguments):
            to_run.clear()


if __name__ == "__main__":
    main(sys.argv[1:])
