"""A real helm, and the definitions of custom resources."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chart.cases import CASES, NEEDED
from tests.support.crds import crd_files
from tests.support.helm import Helm, installed_helm

FilesOf = Callable[[str], list[Path]]


@pytest.fixture(scope="session")
def helm() -> Helm:
    return installed_helm()


@pytest.fixture(scope="session")
def crds() -> list[Path]:
    return crd_files()


@pytest.fixture(scope="session")
def files_of(tmp_path_factory: pytest.TempPathFactory) -> FilesOf:
    """Return the files of a case's values: what an operator must say at the least, then what the case says."""
    folder = tmp_path_factory.mktemp("values")
    needed = folder / "needed.json"
    needed.write_text(json.dumps(NEEDED))

    def files(case: str) -> list[Path]:
        said = CASES[case]
        if isinstance(said, Path):
            return [needed, said]
        file = folder / f"{case}.json"
        file.write_text(json.dumps(said))
        return [needed, file]

    return files
