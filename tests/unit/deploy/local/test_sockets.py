"""The folder of the stack's sockets: its path is short for any data folder, and it belongs to this user alone."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.settings import StartupError
from deploy.local.sockets import (
    LONGEST_NAME_BYTES,
    LONGEST_PATH_BYTES,
    open_socket_folder,
    remove_socket_folders,
    socket_folder,
)


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Path]:
    """What a login session gives its user: short, and theirs alone."""
    short = Path(f"/tmp/bindery-test-{os.getpid()}")
    short.mkdir(mode=0o700)
    yield short
    for child in short.iterdir():
        child.rmdir()
    short.rmdir()


def test_it_is_below_the_runtime_folder_of_the_session(tmp_path: Path, runtime: Path) -> None:
    folder = socket_folder(tmp_path, {"XDG_RUNTIME_DIR": str(runtime)})
    assert folder.parent == runtime
    open_socket_folder(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    remove_socket_folders(tmp_path, {"XDG_RUNTIME_DIR": str(runtime)})
    assert not folder.exists()


@pytest.mark.parametrize("spoilt", ["unset", "relative", "missing", "open", "link", "long"])
def test_it_is_below_tmp_if_the_runtime_folder_will_not_do(tmp_path: Path, runtime: Path, spoilt: str) -> None:
    runtime_dir = runtime
    if spoilt == "relative":
        runtime_dir = Path("run")
    elif spoilt == "missing":
        runtime_dir = runtime / "missing"
    elif spoilt == "open":
        runtime.chmod(0o770)
    elif spoilt == "link":
        runtime_dir = tmp_path / "link"
        runtime_dir.symlink_to(runtime)
    elif spoilt == "long":
        runtime_dir = tmp_path / ("x" * 80)
        runtime_dir.mkdir(mode=0o700)
    folder = socket_folder(tmp_path, {} if spoilt == "unset" else {"XDG_RUNTIME_DIR": str(runtime_dir)})
    assert folder.parent == Path("/tmp")
    assert folder.name.startswith(f"bindery-{os.geteuid()}-")


def test_each_data_folder_has_its_own_and_the_same_one_again(tmp_path: Path) -> None:
    folder = socket_folder(tmp_path / "one", {})
    other = socket_folder(tmp_path / "other", {})
    assert folder != other
    assert socket_folder(tmp_path / "one", {}) == folder


def test_a_socket_fits_whatever_the_data_folder_is_called(tmp_path: Path) -> None:
    folder = socket_folder(Path("/" + "d" * 160), {})
    assert len(os.fsencode(folder)) + LONGEST_NAME_BYTES <= LONGEST_PATH_BYTES
    open_socket_folder(folder)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "worker-1000.sock"))
    remove_socket_folders(Path("/" + "d" * 160), {})
    assert not folder.exists()


@pytest.mark.parametrize(
    ("made_before", "message"),
    [
        ("link", "is a link or a file: somebody created it before Bindery did. Remove it, or ask"),
        ("file", "is a link or a file: somebody created it before Bindery did. Remove it, or ask"),
        ("open", "is open to others (mode 755): remove it, or `chmod 700"),
    ],
)
def test_one_that_others_have_a_hand_in_is_refused_and_stays(tmp_path: Path, made_before: str, message: str) -> None:
    folder = tmp_path / "sockets"
    if made_before == "link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        folder.symlink_to(tmp_path / "elsewhere")
    elif made_before == "file":
        folder.touch()
    else:
        folder.mkdir(mode=0o755)
    with pytest.raises(StartupError) as raised:
        open_socket_folder(folder)
    assert message in str(raised.value)
    assert str(folder) in str(raised.value)
    assert folder.exists()


def test_one_of_another_user_is_refused_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "sockets"
    folder.mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    with pytest.raises(StartupError) as raised:
        open_socket_folder(folder)
    assert "belongs to another user" in str(raised.value)
    assert "set XDG_RUNTIME_DIR to a folder of yours with mode 700" in str(raised.value)


def test_files_of_another_user_are_not_removed(tmp_path: Path) -> None:
    folder = socket_folder(tmp_path, {})
    folder.symlink_to(tmp_path)
    (tmp_path / "kept").touch()
    try:
        remove_socket_folders(tmp_path, {})
        assert (tmp_path / "kept").exists()
    finally:
        folder.unlink()
