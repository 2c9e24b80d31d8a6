"""What follows a build: bytecode that servers find, the image's size, and room for the next one."""

import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from services.builder.executors.process.session.image_runtime import bytecode
from services.builder.executors.process.session.layout import ImageFolder, Layout, Manifest
from services.builder.executors.process.session.spec import SessionSettings
from services.builder.executors.process.session.upkeep import upkeep
from tests.support.polling import eventually

MODULE = Path("lib/python3/site-packages/one.py")


@pytest.fixture(autouse=True)
def priorities(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What the upkeep would take from this process, which has other tests to run."""
    changes: list[int] = []
    monkeypatch.setattr(os, "nice", changes.append)
    return changes


@pytest.fixture
def image(tmp_path: Path) -> ImageFolder:
    """An image of one module, one that can't be compiled, and one that was compiled before."""
    image = Layout(tmp_path).image("i-1")
    packages = image.env / MODULE.parent
    packages.mkdir(parents=True)
    (packages / "one.py").write_text("value = 1\n")
    (packages / "template.py").write_text("{{ no Python }}\n")
    (packages / "before.py").write_text("value = 2\n")
    compiled = packages / "__pycache__" / f"before.{sys.implementation.cache_tag}.pyc"
    compiled.parent.mkdir()
    compiled.write_text("kept")
    image.python.parent.mkdir()
    image.python.symlink_to(sys.executable)
    image.runtime.mkdir()
    (image.runtime / "bytecode.py").write_text(Path(bytecode.__file__).read_text())
    return image


def finish(image: ImageFolder, *, is_layered: bool = True) -> None:
    manifest = Manifest(
        image="i", build_id="i-1", repo_url="", ref="", python="", created="", start=None, is_layered=is_layered
    )
    image.manifest_path.write_text(manifest.model_dump_json())


def test_bytecode_lies_over_what_was_installed_and_names_its_place(image: ImageFolder, tmp_path: Path) -> None:
    finish(image)
    upkeep(Layout(tmp_path), image, SessionSettings())
    compiled = [path for path in image.bytecode.rglob("*") if path.is_file()]
    assert compiled == [image.bytecode / MODULE.parent / "__pycache__" / f"one.{sys.implementation.cache_tag}.pyc"]
    # As the overlay does: the module and its bytecode in one place, which Python then does not write.
    in_place = image.env / compiled[0].relative_to(image.bytecode)
    in_place.write_bytes(compiled[0].read_bytes())
    code = "import one; print(one.__cached__, one.value, compile.__name__)"
    environ = {"PYTHONPATH": str(image.env / MODULE.parent), "PYTHONVERBOSE": "1"}
    run = subprocess.run([sys.executable, "-S", "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert run.stdout == f"{in_place} 1 compile\n"
    assert f"# {in_place} matches {image.env / MODULE}" in run.stderr


@pytest.mark.parametrize(
    ("is_layered", "settings"),
    [
        (False, SessionSettings()),
        (True, SessionSettings(compiles_bytecode=False)),
        (True, SessionSettings(bytecode_timeout_seconds=0)),
    ],
)
def test_nothing_is_half_compiled(
    image: ImageFolder, tmp_path: Path, is_layered: bool, settings: SessionSettings
) -> None:
    finish(image, is_layered=is_layered)
    upkeep(Layout(tmp_path), image, settings)
    assert {path.name for path in image.path.iterdir()} == {"env", "image_runtime", "image.json", "size"}


def test_an_image_that_was_removed_meanwhile_stays_removed(image: ImageFolder, tmp_path: Path) -> None:
    image.remove()
    upkeep(Layout(tmp_path), image, SessionSettings())
    assert not image.path.exists()


def test_a_size_is_measured_once_and_counts_the_bytecode(image: ImageFolder, tmp_path: Path) -> None:
    finish(image)
    upkeep(Layout(tmp_path), image, SessionSettings())
    size = image.size_bytes()
    image.bytecode.rename(tmp_path / "elsewhere")
    assert image.size_bytes() == size
    (image.path / "size").unlink()
    assert 0 < image.size_bytes() < size


def test_images_make_room_when_all_is_counted(image: ImageFolder, tmp_path: Path) -> None:
    finish(image)
    upkeep(Layout(tmp_path), image, SessionSettings(max_images_bytes=0, images_grace_seconds=0))
    assert not image.path.exists()


def test_one_image_of_a_machine_is_worked_for_at_a_time(
    image: ImageFolder, tmp_path: Path, priorities: list[int]
) -> None:
    finish(image)
    path = tmp_path / "images" / ".upkeep.lock"

    def is_waited_for() -> bool:
        locks = Path("/proc/locks").read_text().splitlines()
        return any(" -> " in line and f":{path.stat().st_ino} " in line for line in locks)

    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        working = threading.Thread(target=upkeep, args=(Layout(tmp_path), image, SessionSettings()))
        working.start()
        eventually(is_waited_for, "the upkeep waits")
    working.join()
    assert priorities == [19]
    assert (image.path / "size").exists()
