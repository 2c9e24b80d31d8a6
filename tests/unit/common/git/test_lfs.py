"""Contents of Git LFS from a real server: what is fetched, what stays a pointer, and what the log says of it."""

import hashlib
import os
import re
import threading
from pathlib import Path

import pytest

from tests.support.bare_repos import Content, Executable, Gitlink, Link
from tests.support.checkout_git import git_in
from tests.support.forge import Forge
from tests.support.lfs_fetching import DATA, fetch, missing, repository
from tests.support.lfs_objects import BATCH, OBJECTS, LfsObjects, pointer_to


async def test_contents_take_the_place_of_their_pointers(forge: Forge, lfs: LfsObjects, target: Path) -> None:
    pointer = lfs.add(DATA)
    sha = repository(forge, {"data.npy": pointer, "again/copy.npy": pointer, "other.npy": lfs.add(b"other")})
    assert await fetch(forge, sha, target) == ["The contents of 3 files came from Git LFS (11 KiB)"]
    assert (target / "data.npy").read_bytes() == (target / "again/copy.npy").read_bytes() == DATA
    assert (target / "other.npy").read_bytes() == b"other"
    assert len([request for request in forge.requests if request.path.startswith(OBJECTS)]) == 2
    assert not (target / ".git/bindery-lfs").exists()


async def test_for_git_the_files_are_unchanged(forge: Forge, lfs: LfsObjects, target: Path) -> None:
    sha = repository(forge, {"data.npy": lfs.add(DATA), os.fsdecode(b"caf\xe9.npy"): lfs.add(b"more")})
    forge.tag("org", "repo", "v1.0", sha)
    await fetch(forge, sha, target)
    assert git_in(target, "status", "--porcelain") == ""
    assert git_in(target, "describe", "--tags", "--dirty") == "v1.0"


async def test_a_script_stays_executable_and_a_link_a_link(forge: Forge, lfs: LfsObjects, target: Path) -> None:
    pointer = lfs.add(DATA)
    sha = repository(forge, {"link.npy": Link("data.npy"), "data.npy": pointer, "run.npy": Executable(pointer)})
    await fetch(forge, sha, target)
    assert os.access(target / "run.npy", os.X_OK)
    assert not os.access(target / "data.npy", os.X_OK)
    assert (target / "run.npy").read_bytes() == DATA
    assert (target / "link.npy").readlink() == Path("data.npy")


async def test_only_pointers_with_the_filter_count(forge: Forge, lfs: LfsObjects, target: Path) -> None:
    pointer = lfs.add(DATA)
    sha = repository(forge, {"notes.txt": pointer, "real.npy": b"real data"})
    assert await fetch(forge, sha, target) == []
    assert (target / "notes.txt").read_text() == pointer
    assert (target / "real.npy").read_bytes() == b"real data"
    assert not any(BATCH in request.path for request in forge.requests)


async def test_several_objects_are_fetched_at_once(forge: Forge, lfs: LfsObjects, target: Path) -> None:
    lfs.at_once = threading.Barrier(4)
    sha = repository(forge, {f"{number}.npy": lfs.add(b"%d" % number) for number in range(4)})
    assert await fetch(forge, sha, target) == ["The contents of 4 files came from Git LFS (1 KiB)"]


async def test_many_objects_are_asked_for_in_batches(
    forge: Forge, lfs: LfsObjects, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.common.git.lfs.BATCH_OBJECTS", 2)
    sha = repository(forge, {f"{number}.npy": lfs.add(b"%d" % number) for number in range(5)})
    await fetch(forge, sha, target)
    assert len([request for request in forge.requests if BATCH in request.path]) == 3
    assert {(target / f"{number}.npy").read_text() for number in range(5)} == set("01234")


async def test_a_server_without_git_lfs_leaves_pointers_and_a_line(forge: Forge, target: Path) -> None:
    pointer = pointer_to("4" * 64, 12345)
    sha = repository(forge, {"data.npy": pointer, "more.npy": pointer})
    assert await fetch(forge, sha, target) == [
        "2 files are kept in Git LFS; their contents were not fetched: data.npy, more.npy. "
        "127.0.0.1 has no Git LFS for the repository (it answered 404)."
    ]
    assert (target / "data.npy").read_text() == pointer


async def test_an_object_that_is_not_there_is_named_and_the_others_are_fetched(
    forge: Forge, lfs: LfsObjects, target: Path
) -> None:
    sha = repository(forge, {"gone.npy": pointer_to("4" * 64, 5), "here.npy": lfs.add(DATA)})
    assert await fetch(forge, sha, target) == [
        "The contents of 1 file came from Git LFS (6 KiB)",
        *missing("gone.npy", "127.0.0.1 does not have them (404: Object does not exist)."),
    ]
    assert (target / "here.npy").read_bytes() == DATA


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, "127.0.0.1 does not give them to everybody (it answered 401: over its \N{BLACK SQUARE}? quota)."),
        (403, "127.0.0.1 does not give them to everybody (it answered 403: over its \N{BLACK SQUARE}? quota)."),
        (422, "127.0.0.1 answered 422: over its \N{BLACK SQUARE}? quota."),
        (503, "127.0.0.1 answered 503: over its \N{BLACK SQUARE}? quota."),
    ],
)
async def test_a_refusal_is_quoted(forge: Forge, lfs: LfsObjects, target: Path, status: int, reason: str) -> None:
    lfs.status, lfs.message = status, "over \n its \N{BLACK SQUARE}\x1b quota"
    sha = repository(forge, {"data.npy": lfs.add(DATA)})
    assert await fetch(forge, sha, target) == missing("data.npy", reason)


@pytest.mark.parametrize(
    "sent", [DATA[:-1], DATA + b"x", b"x" * len(DATA), b"", DATA * 1000], ids=["short", "long", "other", "none", "huge"]
)
async def test_what_is_not_what_the_pointer_names_is_thrown_away(
    forge: Forge, lfs: LfsObjects, target: Path, sent: bytes
) -> None:
    pointer = lfs.add(DATA)
    lfs.sent[hashlib.sha256(DATA).hexdigest()] = sent
    sha = repository(forge, {"data.npy": pointer})
    reason = "What 127.0.0.1 sent is not what the pointers name (size or SHA-256)."
    assert await fetch(forge, sha, target) == missing("data.npy", reason)
    assert (target / "data.npy").read_text() == pointer
    assert not (target / ".git/bindery-lfs").exists()


async def test_a_failure_that_passes_is_tried_again(forge: Forge, lfs: LfsObjects, target: Path) -> None:
    lfs.failures = 2
    sha = repository(forge, {"data.npy": lfs.add(DATA)})
    await fetch(forge, sha, target)
    assert (target / "data.npy").read_bytes() == DATA


async def test_a_pointer_with_a_wrong_size_spoils_no_other_one(forge: Forge, lfs: LfsObjects, target: Path) -> None:
    pointer = lfs.add(DATA)
    sha = repository(forge, {"data.npy": pointer, "wrong.npy": pointer.replace(f"size {len(DATA)}", "size 7")})
    assert await fetch(forge, sha, target) == [
        "The contents of 1 file came from Git LFS (6 KiB)",
        *missing("wrong.npy", "What 127.0.0.1 sent is not what the pointers name (size or SHA-256)."),
    ]
    assert (target / "data.npy").read_bytes() == DATA


async def test_files_over_the_limit_stay_pointers(forge: Forge, lfs: LfsObjects, target: Path) -> None:
    files: dict[str, Content] = {f"{number}.npy": lfs.add(bytes([number]) * 1000) for number in range(9)}
    sha = repository(forge, files)
    assert await fetch(forge, sha, target, max_lfs_bytes=2500) == [
        "The contents of 2 files came from Git LFS (2 KiB)",
        "7 files are kept in Git LFS; their contents were not fetched: 2.npy, 3.npy, 4.npy, 5.npy, 6.npy and 2 more. "
        "They are over the limit of 3 KiB (BINDERY_FETCH_LFS_MAX_BYTES).",
    ]


async def test_a_limit_of_nothing_asks_no_server(forge: Forge, lfs: LfsObjects, target: Path) -> None:
    sha = repository(forge, {"data.npy": lfs.add(DATA), "none.npy": lfs.add(b"")})
    (line,) = await fetch(forge, sha, target, max_lfs_bytes=0)
    assert line.endswith("data.npy, none.npy. They are over the limit of 0 KiB (BINDERY_FETCH_LFS_MAX_BYTES).")
    assert not any(BATCH in request.path for request in forge.requests)


async def test_the_repositorys_own_limit_holds_with_them(forge: Forge, lfs: LfsObjects, target: Path) -> None:
    sha = repository(forge, {"data.npy": lfs.add(b"x" * 2**19)})
    reason = "With them, the repository would be over its limit (BINDERY_FETCH_MAX_BYTES)."
    assert await fetch(forge, sha, target, max_bytes=2**19) == missing("data.npy", reason)


async def test_a_server_that_hangs_costs_the_contents_only(forge: Forge, lfs: LfsObjects, target: Path) -> None:
    lfs.at_once = threading.Barrier(2)
    pointer = lfs.add(DATA)
    sha = repository(forge, {"data.npy": pointer})
    reason = "They did not arrive in the time that fetching may take (BINDERY_FETCH_TIMEOUT_SECONDS)."
    lines = await fetch(forge, sha, target, seconds=3)
    lfs.at_once.abort()
    assert lines == missing("data.npy", reason)
    assert (target / "data.npy").read_text() == pointer


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"transfer": "custom"}, "127.0.0.1 offers them by another way than the basic transfer."),
        ({"objects": None}, "127.0.0.1 does not answer as a Git LFS server."),
        ({"objects": []}, "127.0.0.1 does not say where they are."),
        ({"objects": [None, {"oid": 1}, {"oid": "4" * 64}]}, "127.0.0.1 does not say where they are."),
    ],
)
async def test_an_odd_answer_is_said(
    forge: Forge, lfs: LfsObjects, target: Path, changes: dict[str, object], reason: str
) -> None:
    lfs.answer_changes = changes
    sha = repository(forge, {"data.npy": lfs.add(DATA)})
    assert await fetch(forge, sha, target) == missing("data.npy", reason)


async def test_a_pointer_with_an_extension_stays(forge: Forge, lfs: LfsObjects, target: Path) -> None:
    pointer = lfs.add(DATA).replace("oid ", f"ext-0-evil sha256:{'4' * 64}\noid ")
    (line,) = await fetch(forge, repository(forge, {"data.npy": pointer}), target)
    assert re.search(r"data\.npy\. Their pointers ask for a program of the author's", line)
    assert (target / "data.npy").read_text() == pointer


async def test_files_of_a_submodule_come_from_its_own_server(forge: Forge, lfs: LfsObjects, target: Path) -> None:
    lib = repository(forge, {"data.npy": lfs.add(DATA)}, "lib")
    modules = '[submodule "lib"]\n\tpath = lib\n\turl = ../lib\n'
    sha = forge.create_repo("org", "repo", {".gitmodules": modules, "lib": Gitlink(lib)})
    assert await fetch(forge, sha, target) == ["Submodule lib: The contents of 1 file came from Git LFS (6 KiB)"]
    assert (target / "lib/data.npy").read_bytes() == DATA
    (batch,) = [request for request in forge.requests if BATCH in request.path]
    assert batch.path == f"/org/lib.git{BATCH}"


async def test_an_empty_repository_and_one_without_attributes_ask_nobody(
    forge: Forge, lfs: LfsObjects, target: Path
) -> None:
    sha = forge.create_repo("org", "repo", {"data.npy": lfs.add(DATA)})
    assert await fetch(forge, sha, target) == []
