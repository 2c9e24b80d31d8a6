"""Hostile ZIP files: nothing is written outside, and nothing grows without bounds."""

import contextlib
import io
import stat
import struct
import warnings
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.builder.executors.process.session.archives import budget as budgets
from services.builder.executors.process.session.archives.budget import Budget
from services.builder.executors.process.session.archives.tree import NewTree
from services.builder.executors.process.session.archives.zips import is_zip, unpack_zip
from services.common.models.errors import BinderyError
from tests.support.archive_datasets import tree_of, zipped
from tests.unit.builder.executors.process.session.archives.conftest import budget_of

ODD_PARTS = st.sampled_from(
    [
        "..",
        ".",
        "",
        "a",
        "b",
        "A",
        "a ",
        "a\\..",
        "\\",
        "~",
        "C:",
        "%2e%2e",
        "\u2024\u2024",
        "x" * 300,
        "\u00e9",
        "e\u0301",
    ]
)
NAMES = st.lists(ODD_PARTS | st.text(max_size=5), min_size=1, max_size=5).map("/".join)
SAME_EACH_TIME = settings(max_examples=100, deadline=None, derandomize=True, database=None)


def packed(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "x.zip"
    path.write_bytes(content)
    return path


def refused(path: Path, tree: NewTree, budget: Budget | None = None) -> BinderyError:
    with pytest.raises(BinderyError) as raised:
        unpack_zip(path, tree, budget or budget_of(), name="x.zip")
    return raised.value


def one_entry(name: str, content: bytes = b"", **fields: int) -> bytes:
    """Return a ZIP file with an entry whose fields in the archive's list are these."""
    entry = zipfile.ZipInfo("placeholder")
    entry.filename = name
    for field, value in fields.items():
        setattr(entry, field, value)
    packed_content = io.BytesIO()
    with zipfile.ZipFile(packed_content, "w") as archive:
        archive.writestr(entry, content)
    return packed_content.getvalue()


@pytest.mark.parametrize("name", ["../a", "a/../../b", "/etc/a", "a/..", "..", "//a"])
def test_a_name_that_leads_out_is_refused(tmp_path: Path, tree: NewTree, name: str) -> None:
    error = refused(packed(tmp_path, one_entry(name, b"x")), tree)
    assert error.code == "build_failed"
    assert error.detail == f"A name in x.zip leads out of its folder: {name!r}."


def test_a_name_can_t_write_to_the_terminal_of_the_log(tmp_path: Path, tree: NewTree) -> None:
    assert "../?[2J" in refused(packed(tmp_path, one_entry("../\x1b[2J")), tree).detail


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_what_an_entry_says_of_its_kind_and_its_rights_is_not_looked_at(
    tmp_path: Path, tree: NewTree, kind: int
) -> None:
    content = one_entry("a", b"/etc/passwd", external_attr=(kind | 0o6777) << 16, create_system=3)
    unpack_zip(packed(tmp_path, content), tree, budget_of(), name="x.zip")
    status = (tree.root / "a").lstat()
    assert stat.S_ISREG(status.st_mode)
    assert status.st_mode & 0o7111 == 0
    assert tree_of(tree.root) == {"a": b"/etc/passwd"}


def test_a_file_of_zeros_is_a_bomb_only_if_it_is_large(
    tmp_path: Path, tree: NewTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = packed(tmp_path, zipped({"zeros": bytes(2**19)}))
    budget = budget_of(max_ratio=100).for_unpacking(path.stat().st_size)
    unpack_zip(path, tree, budget, name="x.zip")
    monkeypatch.setattr(budgets, "FREE_UNPACKED_BYTES", 2**17)
    error = refused(path, tree, budget_of(max_ratio=100).for_unpacking(path.stat().st_size))
    assert error.code == "repository_too_large"
    assert "more than 100 times as large" in error.detail


def test_what_is_unpacked_has_a_limit_and_is_not_written_past_it(tmp_path: Path, tree: NewTree) -> None:
    error = refused(packed(tmp_path, zipped({"a": bytes(600_000), "b": bytes(600_000)})), tree)
    assert (error.code, error.detail) == ("repository_too_large", "The dataset is larger than the 1 MiB allowed here.")
    assert sum(path.stat().st_size for path in tree.root.iterdir()) <= 2**20


def test_entries_have_a_limit(tmp_path: Path, tree: NewTree) -> None:
    error = refused(packed(tmp_path, zipped({f"{number}/": b"" for number in range(101)})), tree)
    assert error.code == "repository_too_large"
    assert "more than the 100 files" in error.detail


@pytest.mark.parametrize("name", ["/".join("a" * 60), "/".join("b" * 60) + "/"])
def test_folders_that_are_only_on_the_way_count_too(tmp_path: Path, tree: NewTree, name: str) -> None:
    names = [name, name.replace("a", "c").replace("b", "d")]
    error = refused(packed(tmp_path, zipped(dict.fromkeys(names, b""))), tree)
    assert error.code == "repository_too_large"


def test_a_name_that_leads_too_deep_is_refused(tmp_path: Path, tree: NewTree) -> None:
    error = refused(packed(tmp_path, one_entry("a/" * 101)), tree)
    assert (error.code, "can't be the name of a file" in error.detail) == ("build_failed", True)


def test_a_list_of_entries_that_is_too_long_is_not_read(tmp_path: Path, tree: NewTree) -> None:
    content = zipped({f"{number}{'x' * 200}": b"" for number in range(8000)})
    error = refused(packed(tmp_path, content), tree)
    assert (error.code, error.detail) == ("build_failed", "x.zip can't be unpacked: its list of files is too long.")
    assert tree_of(tree.root) == {}


def test_entries_that_lie_over_each_other_grow_to_no_more_than_the_limit(tmp_path: Path, tree: NewTree) -> None:
    """Many entries of the list may have one content: each would be another file of that size."""
    content = zipped({"a": bytes(300_000)})
    start = content.index(b"PK\x01\x02")
    entry = content[start : content.index(b"PK\x05\x06")]
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 50, 50, len(entry) * 50, start, 0)
    error = refused(packed(tmp_path, content[:start] + entry * 50 + end), tree)
    assert error.code in {"repository_too_large", "build_failed"}


def test_a_file_with_a_password_is_refused(tmp_path: Path, tree: NewTree) -> None:
    content = bytearray(zipped({"a": b"x"}))
    for position in (6, content.index(b"PK\x01\x02") + 8):
        content[position] |= 1
    error = refused(packed(tmp_path, bytes(content)), tree)
    assert (error.code, error.detail) == ("build_failed", "x.zip can't be unpacked: it is locked by a password.")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_methods_than_deflate_are_refused(tmp_path: Path, tree: NewTree, method: int) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as archive:
        archive.writestr("a", bytes(1000))
    assert "by another method than deflate" in refused(packed(tmp_path, content.getvalue()), tree).detail


def test_a_content_that_is_not_what_the_list_says_is_refused(tmp_path: Path, tree: NewTree) -> None:
    content = bytearray(zipped({"a": b"x" * 100}))
    content[content.index(b"PK\x01\x02") + 16] ^= 0xFF  # the checksum
    assert refused(packed(tmp_path, bytes(content)), tree).detail == "x.zip can't be unpacked: it is damaged."


def test_an_entry_without_a_name_is_refused(tmp_path: Path, tree: NewTree) -> None:
    content = bytearray(zipped({"a": b"x"}))
    entry = content.index(b"PK\x01\x02")
    content[entry + 28] = 0  # the length of its name
    content[entry + 30] = 1  # and that of what follows
    assert refused(packed(tmp_path, bytes(content)), tree).code == "build_failed"


def test_of_two_entries_of_one_name_the_later_one_is_kept(tmp_path: Path, tree: NewTree) -> None:
    content = io.BytesIO()
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(content, "w") as archive:
        archive.writestr("a/b", b"one")
        archive.writestr("./a//b", b"two")
    unpack_zip(packed(tmp_path, content.getvalue()), tree, budget_of(), name="x.zip")
    assert tree_of(tree.root) == {"a/b": b"two"}


@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a")])
def test_a_name_that_is_a_file_and_a_folder_is_refused(tmp_path: Path, tree: NewTree, names: tuple[str, str]) -> None:
    error = refused(packed(tmp_path, zipped(dict.fromkeys(names, b""))), tree)
    assert (error.code, "stands for two files, or for a file and a folder" in error.detail) == ("build_failed", True)


def test_unpacking_ends_with_its_time(tmp_path: Path, tree: NewTree) -> None:
    with pytest.raises(TimeoutError):
        unpack_zip(packed(tmp_path, zipped({"a": b"x"})), tree, budget_of(ends_at=monotonic() - 1), name="x.zip")


@pytest.mark.slow
@SAME_EACH_TIME
@given(st.dictionaries(NAMES, st.binary(max_size=3), min_size=1, max_size=4))
def test_whatever_the_names_nothing_is_written_outside(files: dict[str, bytes]) -> None:
    content = io.BytesIO()
    try:
        with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(content, "w") as archive:
            for name, file in files.items():
                archive.writestr(name, file)
    except (UnicodeEncodeError, IndexError):  # it can't be in a ZIP file that Python writes
        return
    unpacked_or_refused(content.getvalue())


@pytest.mark.slow
@SAME_EACH_TIME
@given(st.data())
def test_a_damaged_file_is_unpacked_or_refused(data: st.DataObject) -> None:
    content = bytearray(zipped({"a/b": b"x" * 50, "c": bytes(200)}))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    unpacked_or_refused(bytes(content))


def unpacked_or_refused(content: bytes) -> None:
    """Unpack a file in a folder of its own, see that it is the only one written to, and no other error than ours."""
    with TemporaryDirectory() as work:
        path = packed(Path(work), content)
        root = Path(work) / "outer" / "root"
        root.mkdir(parents=True)
        if is_zip(path):
            with contextlib.suppress(BinderyError):
                unpack_zip(path, NewTree(root, "x.zip", budget_of()), budget_of(), name="x.zip")
        assert {*Path(work).iterdir()} == {root.parent, path}
        assert list(root.parent.iterdir()) == [root]
        assert not any(entry.is_symlink() for entry in root.rglob("*"))
