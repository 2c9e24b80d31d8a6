"""Compiling an environment: `python bytecode.py <environment> <target>`, by its own Python, of whatever version.

The bytecode goes to a folder of its own, which is laid over the environment: servers of it may run by now.
"""

import py_compile
import sys
from importlib.util import cache_from_source
from pathlib import Path


def main(env: Path, target: Path) -> None:
    """Compile each module of `env` that has no bytecode. What can't be compiled, like a template, is left out."""
    for source in env.rglob("*.py"):
        bytecode = Path(cache_from_source(str(source)))
        if bytecode.exists():
            continue
        try:
            py_compile.compile(str(source), cfile=str(target / bytecode.relative_to(env)), doraise=True)
        except (py_compile.PyCompileError, OSError, ValueError, RecursionError, MemoryError):
            continue


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
