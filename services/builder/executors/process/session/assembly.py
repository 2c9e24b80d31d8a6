"""Putting an image's environment together: what a build installed, over the base that it shares with others.

uv is told of the base's packages by their metadata alone: it installs what is missing, as into an environment that has
them. What it replaced of the base is taken out of the whole.
"""

import csv
import os
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import cache_from_source
from pathlib import Path

_METADATA = ("METADATA", "RECORD", "WHEEL", "INSTALLER", "direct_url.json", "entry_points.txt", "top_level.txt")


def tell_packages(base: Path, env: Path) -> None:
    """Make each package of `base` look installed in `env`, by files that are links to the base's."""
    packages = site_packages(env)
    for folder in site_packages(base).glob("*.dist-info"):
        target = packages / folder.name
        target.mkdir()
        for name in _METADATA:
            if (source := folder / name).is_file():
                os.link(source, target / name)


def replaced_files(base: Path, env: Path) -> list[Path]:
    """Return the files of `base`, relative to it, of packages that `env` no longer has or has otherwise."""
    packages, ours = site_packages(base), site_packages(env)
    replaced = [folder for folder in packages.glob("*.dist-info") if not _is_same(folder, ours / folder.name)]
    return [path for folder in replaced for path in _files(base, packages, folder) if not os.path.lexists(env / path)]


def take_out(env: Path, files: list[Path]) -> None:
    """Remove files of an environment, and the folders that become empty."""
    for path in files:
        with suppress(FileNotFoundError, NotADirectoryError):
            (env / path).unlink()
        with suppress(OSError):
            for parent in (env / path).parents:
                parent.rmdir()


def site_packages(env: Path) -> Path:
    """Return the folder of an environment's packages."""
    return next(iter(sorted(env.glob("lib/python*/site-packages"))))


def _is_same(theirs: Path, ours: Path) -> bool:
    with suppress(FileNotFoundError):
        return (theirs / "RECORD").read_bytes() == (ours / "RECORD").read_bytes()
    return False


def _files(base: Path, packages: Path, folder: Path) -> Iterator[Path]:
    """Return what a package's RECORD lists, what Python compiled from it, and all of the metadata."""
    yield from (path.relative_to(base) for path in folder.rglob("*") if path.is_file())
    with (folder / "RECORD").open(newline="") as record:
        for row in csv.reader(record):
            path = Path(os.path.normpath(packages / row[0]))
            if not path.is_relative_to(base) or path.is_relative_to(folder):
                continue
            yield path.relative_to(base)
            if path.suffix == ".py":
                yield from (found.relative_to(base) for found in _compiled(path))


def _compiled(path: Path) -> Iterator[Path]:
    return (Path(cache_from_source(str(path))).parent).glob(f"{path.stem}.*.pyc")
