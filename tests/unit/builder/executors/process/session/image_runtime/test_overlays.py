"""Overlays as this machine mounts them: by root, and by somebody else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import CHECKOUT

AS_NOBODY = """
import ctypes, os
os.setgroups([]); os.setgid(65534); os.setuid(65534)
ctypes.CDLL(None).prctl(4, 1)  # PR_SET_DUMPABLE, as after an exec: else /proc/self is still root's
"""
ENTERS = """
import sys
from pathlib import Path
from services.builder.executors.process.session.image_runtime.overlays import Overlay, try_overlays, unshare_mounts
folder = Path({folder!r})
{before}
unshare_mounts()
try_overlays(folder / "probe")
shared = folder / "sha,red:here"
overlay = Overlay(at=shared, lowers=[shared, folder / "below"], changes=folder / "changes", work=folder / "work")
overlay.mount()
{inside}
"""


def run_inside(folder: Path, inside: str, before: str = "") -> str:
    """Run code where `folder/sha,red:here` is an overlay over itself and `folder/below`; return its output."""
    for name, file in (("sha,red:here", "upper"), ("below", "lower")):
        (folder / name).mkdir()
        (folder / name / file).write_text(name)
    if before:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, 65534, 65534)
    code = ENTERS.format(folder=str(folder), before=before, inside=inside)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


@pytest.fixture(params=["ourselves", "nobody"])
def before(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "ourselves" or os.geteuid() != 0:
        return ""
    for parent in tmp_path.parents:
        if parent.is_relative_to("/tmp/") and parent != Path("/tmp"):
            parent.chmod(0o755)
    return AS_NOBODY


def test_what_is_changed_lies_beside_and_what_is_shared_stays(tmp_path: Path, before: str) -> None:
    inside = """
print(sorted(path.name for path in shared.iterdir()))
(shared / "upper").write_text("changed")
(shared / "lower").unlink()
(shared / "new").mkdir()
print(sorted(path.name for path in shared.iterdir()), (shared / "upper").read_text())
overlay.unmount()
print(sorted(path.name for path in shared.iterdir()), (shared / "upper").read_text())
"""
    printed = run_inside(tmp_path, inside, before).splitlines()
    assert printed == ["['lower', 'upper']", "['new', 'upper'] changed", "['upper'] sha,red:here"]
    assert (tmp_path / "below" / "lower").read_text() == "below"
    assert (tmp_path / "changes" / "upper").read_text() == "changed"


def test_nobody_else_sees_it_and_its_own_children_do(tmp_path: Path) -> None:
    inside = "import subprocess; subprocess.run(['ls', str(shared)], check=True)"
    assert run_inside(tmp_path, inside).split() == ["lower", "upper"]
    assert [path.name for path in (tmp_path / "sha,red:here").iterdir()] == ["upper"]


def test_a_user_keeps_its_name_and_its_files(tmp_path: Path, before: str) -> None:
    inside = "import os; (shared / 'mine').touch(); print(os.getuid(), (shared / 'mine').stat().st_uid)"
    user = 65534 if before else os.getuid()
    assert run_inside(tmp_path, inside, before).split() == [str(user), str(user)]
    assert (tmp_path / "changes" / "mine").stat().st_uid == user


def test_a_system_that_mounts_nothing_says_what_it_refused(tmp_path: Path) -> None:
    code = """
import os
from pathlib import Path
from services.builder.executors.process.session.image_runtime.overlays import Overlay, OverlaysRefusedError
if os.geteuid() == 0:
    os.setgid(65534); os.setuid(65534)
try:
    Overlay(at=Path('.'), lowers=[Path('.')], changes=Path('c'), work=Path('w')).mount()
except OverlaysRefusedError as error:
    print(error)
"""
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents:
        if parent.is_relative_to("/tmp/") and parent != Path("/tmp"):
            parent.chmod(0o755)
    answer = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(CHECKOUT)},
        check=True,
    )
    assert answer.stdout.startswith("an overlay at .: "), answer.stderr


def test_its_end_does_not_wait_for_the_disk(tmp_path: Path, before: str) -> None:
    inside = "print(*(line for line in open('/proc/self/mounts') if str(shared) in line))"
    assert "volatile" in run_inside(tmp_path, inside, before)


def test_it_can_be_mounted_again_with_what_was_changed(tmp_path: Path, before: str) -> None:
    inside = """
(shared / "new").write_text("new")
overlay.unmount()
overlay.mount()
print((shared / "new").read_text())
"""
    assert run_inside(tmp_path, inside, before) == "new\n"
