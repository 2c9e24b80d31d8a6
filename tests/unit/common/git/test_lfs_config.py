"""What an author says in `.lfsconfig` of the files that a clone fetches, and of the server that has them."""

from pathlib import Path

import pytest

from services.common.git.lfs_config import EXCLUDED, NOT_INCLUDED
from tests.support.bare_repos import Content
from tests.support.forge import Forge
from tests.support.lfs_fetching import DATA, fetch, missing, repository
from tests.support.lfs_objects import BATCH, LfsObjects


@pytest.mark.parametrize(
    ("setting", "reasons"),
    [
        ("fetchexclude = raw", {"raw/a.npy": EXCLUDED, "raw/deep/b.npy": EXCLUDED}),
        ("fetchexclude = /top.npy , deep", {"raw/deep/b.npy": EXCLUDED, "top.npy": EXCLUDED}),
        ("fetchinclude = raw/*.npy", {"raw/deep/b.npy": NOT_INCLUDED, "top.npy": NOT_INCLUDED}),
        (
            "fetchinclude = raw\n\tfetchexclude = b.npy",
            {"raw/deep/b.npy": EXCLUDED, "top.npy": NOT_INCLUDED},
        ),
        ("fetchexclude = *", dict.fromkeys(("raw/a.npy", "raw/deep/b.npy", "top.npy"), EXCLUDED)),
        ("fetchexclude =", {}),
    ],
)
async def test_files_that_the_author_leaves_out_stay_pointers(
    forge: Forge, lfs: LfsObjects, target: Path, setting: str, reasons: dict[str, str]
) -> None:
    files: dict[str, Content] = {path: lfs.add(path.encode()) for path in ("raw/a.npy", "raw/deep/b.npy", "top.npy")}
    pointers = dict(files)
    sha = repository(forge, files | {".lfsconfig": f"[lfs]\n\t{setting}\n"})
    lines = await fetch(forge, sha, target)
    for path, pointer in pointers.items():
        assert (target / path).read_text() == (pointer if path in reasons else path)
    for reason in set(reasons.values()):
        assert any(line.endswith(reason) for line in lines)
    assert any(BATCH in request.path for request in forge.requests) == (len(reasons) < 3)


async def test_a_list_that_is_too_long_for_a_programs_argument_is_read(
    forge: Forge, lfs: LfsObjects, target: Path
) -> None:
    patterns = ", ".join(f"none-{number}.npy" for number in range(20_000))
    sha = repository(
        forge, {"data.npy": lfs.add(DATA), ".lfsconfig": f"[lfs]\n\tfetchexclude = {patterns}, data.npy\n"}
    )
    assert await fetch(forge, sha, target) == missing("data.npy", EXCLUDED)


@pytest.mark.parametrize("url_of_all", ["", "http://10.0.0.8/lfs"])
async def test_the_server_may_be_that_of_the_origin(
    forge: Forge, lfs: LfsObjects, other_forge: Forge, target: Path, url_of_all: str
) -> None:
    assert other_forge.lfs is not None
    config = f'[remote "origin"]\n\tlfsurl = {other_forge.url}/some/where/info/lfs\n[lfs]\n\turl = {url_of_all}\n'
    sha = repository(forge, {"data.npy": other_forge.lfs.add(DATA), ".lfsconfig": config})
    (line,) = await fetch(forge, sha, target)
    assert line.startswith("1 file is kept in Git LFS" if url_of_all else "The contents of 1 file came from Git LFS")
