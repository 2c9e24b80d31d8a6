"""Hostile tar files: nothing is written outside, also not through links, and nothing grows without bounds."""

import contextlib
import gzip
import io
import os
import stat
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.builder.executors.process.session.archives.budget import Budget
from services.builder.executors.process.session.archives.tars import unpack_tar
from services.builder.executors.process.session.archives.tree import NewTree
from services.common.models.errors import BinderyError
from tests.support.archive_datasets import tarred, tree_of
from tests.unit.builder.executors.process.session.archives.conftest import budget_of

PARTS = st.sampled_from(["..", ".", "", "a", "b", "c", "A", "top"])
PATHS = st.lists(PARTS, min_size=1, max_size=4).map("/".join)
KINDS = st.sampled_from(
    [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE]
)
SAME_EACH_TIME = settings(max_examples=100, deadline=None, derandomize=True, database=None)


def packed(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "x.tar.gz"
    path.write_bytes(content)
    return path


def entry(
    name: str, kind: bytes = tarfile.REGTYPE, *, link: str = "", size: int = 0, mode: int = 0o644
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = link
    info.size = size
    info.mode = mode
    return info


def tar_of(*entries: tarfile.TarInfo) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for each in entries:
            archive.addfile(each, io.BytesIO(bytes(each.size)))
    return content.getvalue()


def refused(path: Path, tree: NewTree, budget: Budget | None = None) -> BinderyError:
    with pytest.raises(BinderyError) as raised:
        unpack(path, tree, budget)
    return raised.value


def unpack(path: Path, tree: NewTree, budget: Budget | None = None) -> None:
    unpack_tar(path, tree, budget or budget_of(), name="it")
    tree.make_links(tree.root)


@pytest.mark.parametrize("name", ["../a", "/a", "a/../../b"])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE])
def test_a_name_that_leads_out_is_refused(tmp_path: Path, tree: NewTree, name: str, kind: bytes) -> None:
    error = refused(packed(tmp_path, tar_of(entry(name, kind, link="b"))), tree)
    assert (error.code, "leads out of its folder" in error.detail) == ("build_failed", True)


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.LNKTYPE, b"?"])
def test_devices_pipes_and_hard_links_are_refused(tmp_path: Path, tree: NewTree, kind: bytes) -> None:
    error = refused(packed(tmp_path, tar_of(entry("a", kind, link="/etc/passwd"))), tree)
    assert error.code == "build_failed"
    assert error.detail == "'a' in it is neither a file, a folder nor a link, and is not unpacked."


def test_no_file_is_written_through_a_link(tmp_path: Path, tree: NewTree) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    content = tar_of(entry("a", tarfile.SYMTYPE, link=str(outside)), entry("a/b", size=3))
    error = refused(packed(tmp_path, content), tree)
    assert "stands for two files, or for a file and a folder" in error.detail
    assert list(outside.iterdir()) == []


def test_no_link_is_made_through_a_link(tmp_path: Path, tree: NewTree) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    content = tar_of(
        entry("a", tarfile.SYMTYPE, link=str(outside)), entry("a/b", tarfile.SYMTYPE, link="c"),
        entry("a/d/e", tarfile.SYMTYPE, link="c"),
    )  # fmt: skip
    assert refused(packed(tmp_path, content), tree).code == "build_failed"
    assert list(outside.iterdir()) == []


def test_a_chain_of_links_without_end_leads_nowhere(tmp_path: Path, tree: NewTree) -> None:
    links = [entry(f"{number}", tarfile.SYMTYPE, link=f"{number + 1}") for number in range(60)]
    circle = [entry("x", tarfile.SYMTYPE, link="y"), entry("y", tarfile.SYMTYPE, link="x")]
    unpack_tar(packed(tmp_path, tar_of(*links, *circle, entry("60"))), tree, budget_of(), name="it")
    left_out = tree.make_links(tree.root)
    assert {"x", "y", "0"} <= set(left_out)
    assert "59" not in left_out
    assert (tree.root / "59").samefile(tree.root / "60")


def test_a_link_whose_path_becomes_too_long_leads_nowhere(tmp_path: Path, tree: NewTree) -> None:
    target = "./" * 2000
    links = [entry("a", tarfile.SYMTYPE, link=f"{target}b"), entry("b", tarfile.SYMTYPE, link=f"{target}c")]
    unpack_tar(packed(tmp_path, tar_of(*links, entry("c"))), tree, budget_of(), name="it")
    assert set(tree.make_links(tree.root)) <= {"a", "b"}


def test_a_link_through_one_that_is_left_out_is_left_out_too(tmp_path: Path, tree: NewTree) -> None:
    out = entry("out", tarfile.SYMTYPE, link="..")
    back = entry("back", tarfile.SYMTYPE, link="out/root/a")
    unpack_tar(packed(tmp_path, tar_of(out, back, entry("a"))), tree, budget_of(), name="it")
    assert tree.make_links(tree.root) == ["out", "back"]
    assert tree_of(tree.root) == {"a": b""}


def test_a_program_is_one_and_no_more(tmp_path: Path, tree: NewTree) -> None:
    unpack_tar(packed(tmp_path, tar_of(entry("a", mode=0o7777), entry("b", mode=0o644))), tree, budget_of(), name="it")
    modes = {name: stat.S_IMODE((tree.root / name).stat().st_mode) for name in ("a", "b")}
    assert {name: mode & 0o7111 for name, mode in modes.items()} == {"a": 0o111 & ~_umask(), "b": 0}


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_content_and_entries_have_limits(tmp_path: Path, tree: NewTree) -> None:
    assert refused(packed(tmp_path, tar_of(entry("a", size=2**21))), tree).code == "repository_too_large"
    many = tar_of(*(entry(f"{number}/", tarfile.DIRTYPE) for number in range(101)))
    assert refused(packed(tmp_path, many), tree).code == "repository_too_large"


def test_a_name_of_megabytes_is_not_read(tmp_path: Path, tree: NewTree) -> None:
    long_name = entry("././@LongLink", tarfile.GNUTYPE_LONGNAME, size=2**22)
    error = refused(packed(tmp_path, tar_of(long_name, entry("a"))), tree)
    assert (error.code, error.detail) == (
        "repository_too_large",
        "it can't be unpacked: it is larger than allowed here.",
    )


def test_what_follows_the_last_entry_has_a_limit(tmp_path: Path, tree: NewTree) -> None:
    content = tar_of(entry("a")) + gzip.compress(bytes(2**23))
    assert refused(packed(tmp_path, content), tree).code == "repository_too_large"


@pytest.mark.parametrize("lost", [1, 8, 40])
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, tree: NewTree, lost: int) -> None:
    content = tarred({"a.txt": bytes(range(256)) * 9}, top="top")
    assert refused(packed(tmp_path, content[:-lost]), tree).detail == "it can't be unpacked: it is damaged."


@pytest.mark.slow
@SAME_EACH_TIME
@given(st.lists(st.tuples(KINDS, PATHS, PATHS), min_size=1, max_size=6))
def test_whatever_the_entries_nothing_is_written_outside_and_no_link_leads_there(
    entries: list[tuple[bytes, str, str]],
) -> None:
    content = tar_of(*(entry(name, kind, link=target) for kind, name, target in entries))
    unpacked_or_refused(content)


@pytest.mark.slow
@SAME_EACH_TIME
@given(st.data())
def test_a_damaged_file_is_unpacked_or_refused(data: st.DataObject) -> None:
    whole = gzip.decompress(tarred({"a.txt": b"a", "b/c": bytes(600)}, top="top", links={"l": "a.txt"}))
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, 3000))] = data.draw(st.integers(0, 255))
    unpacked_or_refused(gzip.compress(bytes(content), 1))


def unpacked_or_refused(content: bytes) -> None:
    """Unpack a file in a folder of its own, see that it is the only one written to, and no other error than ours."""
    with TemporaryDirectory() as work:
        path = packed(Path(work), content)
        root = Path(work) / "outer" / "root"
        root.mkdir(parents=True)
        tree = NewTree(root, "it", budget_of())
        with contextlib.suppress(BinderyError):
            unpack(path, tree)
            for name in tree_of(root):
                assert Path(os.path.realpath(root / name)).is_relative_to(os.path.realpath(root))
        assert {*Path(work).iterdir()} == {root.parent, path}
        assert list(root.parent.iterdir()) == [root]
