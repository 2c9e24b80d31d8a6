"""A real helm, and the definitions of custom resources."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chart.cases import CASES, NEEDED
from tests.support.crds import crd_files
from tests.support.go_toolchain import NoGoError
from tests.support.helm import Helm, NoHelmError, installed_helm

FilesOf = Callable[[str], list[Path]]


@pytest.fixture(scope="session")
def helm() -> Helm:
    try:
        return installed_helm()
    except NoHelmError as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def crds() -> list[Path]:
    try:
        return crd_files()
    except NoGoError as missing:
        pytest.skip(f"no definitions of custom resources: {missing}")


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
