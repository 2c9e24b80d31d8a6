"""The packages of the tests' channel: this machine's own Python, packed, and small ones around it."""

import json
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.conda_channel import PLACEHOLDER, CondaPackage, Content

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
FULL_VERSION = ".".join(map(str, sys.version_info[:3]))
_STDLIB = Path(sysconfig.get_path("stdlib", vars={"installed_base": sys.base_prefix, "base": sys.base_prefix}))
_LEFT_OUT = {"__pycache__", "site-packages", "dist-packages", "test", "tests", "idlelib", "tkinter", "turtledemo"}
_LEFT_OUT |= {"lib2to3", "ensurepip", "pydoc_data"}


def interpreter() -> CondaPackage:
    """Return the Python that runs the tests as a package. It finds its library from where its program lies."""
    program = Path(sys.executable).resolve()
    files: dict[str, Content] = {
        f"bin/python{VERSION}": program,
        "bin/python3": Path(f"python{VERSION}"),
        "bin/python": Path(f"python{VERSION}"),
        f"lib/python{VERSION}/site-packages/README.txt": "Packages go here.\n",
    }
    files |= {f"lib/python{VERSION}/{path.relative_to(_STDLIB)}": path for path in _library(_STDLIB)}
    return CondaPackage(name="python", version=FULL_VERSION, files=files)


def _library(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name in _LEFT_OUT or path.name.startswith("config-"):
            continue
        if path.is_dir():
            yield from _library(path)
        elif path.is_file():
            yield path.resolve()


def stand_in(version: str = FULL_VERSION, **fields: Any) -> CondaPackage:
    """Return a package named python whose program is this machine's: quick to make, for what needs no library."""
    program = f'#!/bin/sh\nexec "{Path(sys.executable).resolve()}" "$@"\n'
    return CondaPackage(name="python", version=version, files={"bin/python": program}, **fields)


def tool(version: str = "1.0", **fields: Any) -> CondaPackage:
    """Return a package of Python that has a program: `tool` prints its version."""
    code = f"def main():\n    print('tool {version}')\n"
    return CondaPackage(
        name="tool",
        version=version,
        depends=("python",),
        files={"site-packages/tool.py": code},
        entry_points=("tool = tool:main",),
        is_noarch_python=True,
        **fields,
    )


def places() -> CondaPackage:
    """Return a package whose files say where they are, in text and between other bytes, and that is to be activated."""
    return CondaPackage(
        name="places",
        files={
            "share/places/text": f"at {PLACEHOLDER}/share\n",
            "share/places/binary": b"before\0" + PLACEHOLDER.encode() + b"/share\0after",
            "share/places/link": Path("text"),
            "bin/places": f"#!{PLACEHOLDER}/bin/python\nprint('from places')\n",
            "etc/conda/activate.d/places.sh": f'export PLACES="{PLACEHOLDER}/share/places"\n',
            "share/jupyter/kernels/places/kernel.json": json.dumps({"argv": [f"{PLACEHOLDER}/bin/python"]}),
        },
    )
