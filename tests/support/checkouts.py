"""Small checkouts, and what the process executor reads in them."""

from pathlib import Path

from services.builder.executors.process.session.plan.build_plan import BuildPlan, PipInstall
from services.builder.executors.process.session.plan.reading import read

Files = dict[str, str | bytes]
WHEEL = "tiny-1.0-py3-none-any.whl"
PACKAGE: Files = {"setup.py": "from setuptools import setup; setup()\n"}


def make_checkout(folder: Path, files: Files) -> Path:
    """Write the files into a folder and return it; a name that ends in a slash is an empty folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / name
        assert path.is_relative_to(folder), name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir()
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def plan_of(folder: Path, files: Files, **variables: str) -> BuildPlan:
    """Return the plan for a checkout of these files."""
    return read(make_checkout(folder, files), variables)


def only_install(folder: Path, files: Files, **variables: str) -> PipInstall:
    """Return the one installation of a plan."""
    (install,) = plan_of(folder, files, **variables).installs
    return install


def shown(install: PipInstall, folder: Path) -> list[str]:
    """Return the lines of an installation, with `REPO` for the checkout's URL."""
    return [line.replace(folder.resolve().as_uri(), "REPO") for line in install.requirements]
