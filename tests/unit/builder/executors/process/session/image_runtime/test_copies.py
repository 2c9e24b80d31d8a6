"""Copies of folders: what they have of the original, and where they lead."""

import os
import socket
import stat
from pathlib import Path

import pytest

from services.builder.executors.process.session.image_runtime.copies import copy_tree, make_unwritable
from tests.support.other_user import run_as_other_user


def copy(source: Path, target: Path, **options: object) -> list[str]:
    left_out: list[str] = []
    copy_tree(source, target, left_out=left_out.append, **options)  # type: ignore[arg-type]
    return left_out


def test_files_folders_links_and_modes_are_copied_and_their_owner_may_write(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "folder").mkdir(parents=True)
    (source / "folder" / "program").write_text("text")
    (source / "folder" / "program").chmod(0o555)
    os.utime(source / "folder" / "program", (1000, 1000))
    (source / "link").symlink_to("folder/program")
    (source / "dangling").symlink_to("/no/such/file")
    assert copy(source, tmp_path / "target") == []
    program = tmp_path / "target" / "folder" / "program"
    assert (program.read_text(), program.stat().st_mtime) == ("text", 1000)
    assert stat.S_IMODE(program.stat().st_mode) == 0o755
    assert str((tmp_path / "target" / "link").readlink()) == "folder/program"
    assert str((tmp_path / "target" / "dangling").readlink()) == "/no/such/file"
    program.write_text("changed")
    assert (source / "folder" / "program").read_text() == "text"


def test_a_change_of_a_linked_file_reaches_no_copy(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "one").write_text("one")
    (source / "two").hardlink_to(source / "one")
    copy(source, tmp_path / "target")
    with (source / "two").open("a") as file:
        file.write(" changed")
    assert (tmp_path / "target" / "one").read_text() == "one"


def test_holes_stay_holes(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    with (source / "disk").open("wb") as file:
        file.seek(50 * 2**20)
        file.write(b"data")
        file.truncate(100 * 2**20)
    copy(source, tmp_path / "target")
    copied = tmp_path / "target" / "disk"
    assert copied.stat().st_size == 100 * 2**20
    assert copied.stat().st_blocks * 512 < 2**20
    with copied.open("rb") as file:
        file.seek(50 * 2**20)
        assert file.read(6) == b"data\0\0"


def test_pipes_and_sockets_are_left_out_with_a_line_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source"
    source.mkdir()
    os.mkfifo(source / "pipe")
    monkeypatch.chdir(source)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
    (source / "file").write_text("text")
    lines = copy(source, tmp_path / "target")
    assert [line.partition(" is left out: it is neither")[0] for line in lines] == [
        str(source / "pipe"),
        str(source / "socket"),
    ]
    assert [path.name for path in (tmp_path / "target").iterdir()] == ["file"]


def test_what_cannot_be_read_is_left_out_with_a_line(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "closed").mkdir(parents=True)
    (source / "secret").write_text("text")
    (source / "file").write_text("text")
    for name in ("closed", "secret"):
        (source / name).chmod(0)
    target = tmp_path / "target"
    imports = "from services.builder.executors.process.session.image_runtime.copies import copy_tree"
    code = f"""
copy_tree(Path({str(source)!r}), Path({str(target)!r}), left_out=print)
"""
    printed = run_as_other_user(imports, code, tmp_path)
    (source / "closed").chmod(0o700)
    assert printed.splitlines() == [
        f"{source}/closed is left out: it can't be read",
        f"{source}/secret is left out: it can't be read",
    ]
    assert (target / "file").read_text() == "text"


def test_a_merge_keeps_what_is_there_and_leaves_out_what_it_is_told_to(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    for folder, files in ((source, ("a/both", "a/below", "a/without", "link")), (target, ("a/both", "a/own"))):
        for name in files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(folder.name)
    (target / "link").symlink_to("a")
    assert copy(source, target, without=[source / "a" / "without"], merge=True) == []
    assert {path.name: path.read_text() for path in (target / "a").iterdir()} == {
        "both": "target",
        "below": "source",
        "own": "target",
    }
    assert (target / "link").is_symlink()


def test_what_is_unwritable_is_so_below_too(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_text("text")
    (tmp_path / "a" / "link").symlink_to("/")
    make_unwritable(tmp_path / "a")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "a/b", "a/b/file")]
    (tmp_path / "a").chmod(0o755)
    (tmp_path / "a" / "b").chmod(0o755)
    assert modes == [0o755, 0o555, 0o444]
