"""The rehearsal of a release, with scripts in the places of make and docker; the test of the page has the real ones."""

import os
import zipfile
from pathlib import Path

import pytest

from tests.unit.tools.release.conftest import Checkout
from tests.unit.tools.release.test_steps import step

MAKE = 'printf "localhost/bindery/gateway:0.2.0      179 MB\\nlocalhost/bindery/hub:0.2.0          240 MB\\n"'


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / ".git" / "programs"  # where it is no change of the checkout
    folder.mkdir(parents=True)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def put(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(
    ("docker", "make", "row"),
    [
        ("echo 0.2.0", MAKE, "ok     images       gateway 179 MB, hub 240 MB"),
        ("exit 1", MAKE, "skip   images       no container engine answers here"),
        ("echo 0.1.9", MAKE, "FAIL   images       the image gateway has '0.1.9' as org.opencontainers.image.version"),
        ("echo 0.2.0", "true", "FAIL   images       `make images` named no image localhost/bindery/…:0.2.0"),
        (
            "echo 0.2.0",
            "echo 'hub could not be built' >&2; exit 2",
            "FAIL   images       `make images TAG=0.2.0` failed: hub could not be built",
        ),
    ],
)
def test_images_are_made_with_the_version_if_there_is_an_engine(
    checkout: Checkout, programs: Path, docker: str, make: str, row: str
) -> None:
    put(programs, "docker", docker)
    put(programs, "make", make)
    result = step(checkout, "try", "images")
    assert (result.stdout, result.stderr) == (f"{row}\n", "")
    assert result.returncode == int(row.startswith("FAIL"))


@pytest.mark.parametrize(
    ("files", "row"),
    [
        ({"bindery/__init__.py"}, "ok     content      1 files, those of bindery/"),
        (set(), "FAIL   content      the wheel lacks bindery/__init__.py"),
        (
            {"bindery/__init__.py", "services/x.py"},
            "FAIL   content      the wheel has services/x.py, which git does not know: remove it from bindery/",
        ),
    ],
)
def test_the_wheel_has_the_files_that_git_knows_and_no_others(
    checkout: Checkout, programs: Path, files: set[str], row: str
) -> None:
    (checkout.folder / "bindery").mkdir()
    for name in ("__init__.py", "README.md"):
        (checkout.folder / "bindery" / name).touch()
    (checkout.folder / ".gitignore").write_text("dist/\n")
    checkout.commit()
    wheel = checkout.folder / "dist" / "bindery-0.2.0-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in (*files, "bindery-0.2.0.dist-info/METADATA"):
            archive.writestr(name, "")
    assert step(checkout, "try", "content").stdout == f"{row}\n"


def test_what_keeps_it_from_being_released_is_listed_and_is_no_failure(checkout: Checkout) -> None:
    (checkout.folder / "new").touch()
    result = step(checkout, "try", "notes")
    first, second = result.stdout.splitlines()
    assert first == "ok     notes        3 lines"
    assert second.startswith("later  check        The working tree differs from the commit (new)")
    assert result.returncode == 0
