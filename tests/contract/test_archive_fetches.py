"""What builds fetch from each archive, against replies in the form that it documents: which files lie where."""

from pathlib import Path
from typing import Any

import pytest

from services.builder.executors.process.session.archives import attempts, software_heritage
from services.builder.executors.process.session.errors import StepError
from services.builder.executors.process.session.fetching import fetch
from services.builder.executors.process.session.spec import BuildSpec
from tests.support.archive_datasets import (
    CHANGED_AT,
    DIRECTORY,
    PACKAGE_CHANGED_AT,
    RESOURCE,
    api_urls,
    md5,
    serve_ckan,
    serve_dataverse,
    serve_figshare,
    serve_hydroshare,
    serve_software_heritage,
    serve_zenodo,
    tarred,
    tree_of,
    zipped,
)
from tests.support.archives import recorded, reply
from tests.support.forge import Forge, Page
from tests.support.sample_builds import QUICK

FILES = {"index.ipynb": b"{}", "data/Größe 1.csv": b"a,b\n1,2\n"}
REVISION = "69c0db5050f623e8895b72dfe970392b1f9a0e2e"


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "PAUSES_SECONDS", (0.0, 0.0))
    monkeypatch.setattr(software_heritage, "POLL_SECONDS", 0.01)


class Fetching:
    """Fetches by a session of its own settings; `lines` are those of the log."""

    def __init__(self, forge: Forge, folder: Path, **settings: Any) -> None:
        defaults = {"allowed_networks": ("127.0.0.0/8",), "progress_seconds": 0.0, **api_urls(forge)}
        self.settings = QUICK.model_copy(update=defaults | settings)
        self.target = folder / "image" / "repo"
        self.lines: list[str] = []

    async def fetch(self, provider: str, repo_url: str, ref: str) -> dict[str, bytes | str]:
        spec = BuildSpec(
            build_id="a-1",
            image="i",
            repo_url=repo_url,
            ref=ref,
            content_provider=provider,
            data_dir="unused",
            settings=self.settings,
        )
        await fetch(spec, self.target, self.lines.append)
        assert list(self.target.parent.iterdir()) == [self.target], "nothing else is left"
        return tree_of(self.target)

    async def zenodo(self, number: str = "7") -> dict[str, bytes | str]:
        return await self.fetch("Zenodo", f"https://zenodo.org/records/{number}", number)

    async def fails(self, provider: str, repo_url: str, ref: str) -> StepError:
        with pytest.raises(StepError) as raised:
            await self.fetch(provider, repo_url, ref)
        return raised.value


@pytest.fixture
def fetching(forge: Forge, tmp_path: Path) -> Fetching:
    return Fetching(forge, tmp_path)


# Zenodo


async def test_several_files_of_a_record_keep_their_names(forge: Forge, fetching: Fetching) -> None:
    serve_zenodo(forge, "7", FILES | {"more.zip": zipped({"a": b"a"})})
    tree = await fetching.zenodo()
    assert set(tree) == {*FILES, "more.zip"}
    assert {name: tree[name] for name in FILES} == FILES
    assert fetching.lines == [
        "Fetching 3 files of record 7 (1 KiB)", "1 of 3 files, 1 KiB", "2 of 3 files, 1 KiB",
    ]  # fmt: skip
    assert not (fetching.target / ".git").exists()


@pytest.mark.parametrize("name", ["repo-1.0.zip", "no-ending"])
async def test_one_zip_alone_is_unpacked_without_its_only_folder(forge: Forge, fetching: Fetching, name: str) -> None:
    serve_zenodo(forge, "7", {name: zipped({f"repo-1.0/{path}": content for path, content in FILES.items()})})
    assert await fetching.zenodo() == FILES
    assert fetching.lines == ["Fetching 1 file of record 7 (1 KiB)", f"Unpacking {name}"]


async def test_a_zip_of_several_entries_is_unpacked_as_it_is(forge: Forge, fetching: Fetching) -> None:
    files = {"a/b.txt": b"b", "c.txt": b"c"}
    serve_zenodo(forge, "7", {"x.zip": zipped(files)})
    assert await fetching.zenodo() == files


async def test_one_file_that_is_no_zip_is_kept(forge: Forge, fetching: Fetching) -> None:
    serve_zenodo(forge, "7", {"x.zip": b"PK, but not a ZIP file"})
    assert await fetching.zenodo() == {"x.zip": b"PK, but not a ZIP file"}


async def test_a_record_without_files_is_refused(forge: Forge, fetching: Fetching) -> None:
    serve_zenodo(forge, "7", {})
    failed = await fetching.fails("Zenodo", "https://zenodo.org/records/7", "7")
    assert (failed.code, failed.message) == (
        "ref_not_found",
        "There are no files in record 7, so nothing can be built.",
    )


# Figshare


async def test_files_of_an_article_that_lie_elsewhere_are_left_out(forge: Forge, fetching: Fetching) -> None:
    packed = {"repo.zip": zipped({"repo/a.txt": b"a"})}
    serve_figshare(forge, "9782777", "3", packed, links={"elsewhere.csv": b"1"})
    url = "https://figshare.com/articles/_/9782777/3"
    assert await fetching.fetch("Figshare", url, "9782777.v3") == {"a.txt": b"a"}


async def test_only_a_zip_by_its_name_is_unpacked(forge: Forge, fetching: Fetching) -> None:
    workbook = zipped({"sheet.xml": b"a"})
    serve_figshare(forge, "9782777", "3", {"book.xlsx": workbook})
    url = "https://figshare.com/articles/_/9782777/3"
    assert await fetching.fetch("Figshare", url, "9782777.v3") == {"book.xlsx": workbook}


# Dataverse


async def test_a_dataset_has_its_folders_and_its_tables_as_they_were_deposited(
    forge: Forge, fetching: Fetching
) -> None:
    files = {"data/table.tab": b"deposited\n", "code/a.py": b"print(1)\n", "x.zip": zipped({"a": b"a"})}
    serve_dataverse(forge, "4.2", files, originals={"data/table.tab": "table.dta"})
    url = f"{forge.url}/dataset.xhtml?persistentId=doi:10.7910/DVN/TJCLKP&version=4.2"
    tree = await fetching.fetch("Dataverse", url, "3035124.v4.2")
    assert set(tree) == {"data/table.dta", "code/a.py", "x.zip"}
    assert (tree["data/table.dta"], tree["x.zip"]) == (b"deposited\n", files["x.zip"])
    asked = [each.path for each in forge.requests]
    assert asked[0] == "/api/datasets/:persistentId/versions/4.2?persistentId=doi:10.7910/DVN/TJCLKP"
    assert "/api/access/datafile/1?format=original" in asked


async def test_a_file_that_is_not_public_is_named(forge: Forge, fetching: Fetching) -> None:
    listing = serve_dataverse(forge, "4.2", {"secret.csv": b"1"})
    listing.body["data"]["files"][0]["restricted"] = True
    forge.pages["/api/datasets/:persistentId/versions/4.2"] = listing.page
    url = f"{forge.url}/dataset.xhtml?persistentId=doi:10.7910/DVN/TJCLKP&version=4.2"
    failed = await fetching.fails("Dataverse", url, "3035124.v4.2")
    assert failed.code == "ref_not_found"
    assert failed.message == "The file secret.csv of the dataset is not public on 127.0.0.1. Ask its authors."


# HydroShare


async def test_a_resource_has_its_contents_from_all_pages_of_the_list(forge: Forge, fetching: Fetching) -> None:
    files = FILES | {"c": b"c", "d": b"", "e": b"e"}
    serve_hydroshare(forge, files, per_page=2)
    url = f"https://www.hydroshare.org/resource/{RESOURCE}"
    assert await fetching.fetch("Hydroshare", url, f"{RESOURCE}.v{CHANGED_AT}") == files


async def test_a_resource_that_was_changed_since_is_launched_again(forge: Forge, fetching: Fetching) -> None:
    serve_hydroshare(forge, FILES)
    url = f"https://www.hydroshare.org/resource/{RESOURCE}"
    failed = await fetching.fails("Hydroshare", url, f"{RESOURCE}.v{CHANGED_AT - 1}")
    assert failed.code == "fetch_failed"
    assert failed.message.endswith("on HydroShare was changed after this launch had begun. Launch it again.")


# CKAN


@pytest.mark.parametrize("query", ["", "?activity_id=0f8b1a7e-1111"])
async def test_resources_are_called_as_their_addresses_end(forge: Forge, fetching: Fetching, query: str) -> None:
    serve_ckan(forge, {"a.csv": b"1", "b.csv": b"2"})
    url = f"{forge.url}/dataset/turtles{query}"
    assert await fetching.fetch("CKAN", url, f"turtles.v{PACKAGE_CHANGED_AT}") == {"a.csv": b"1", "b.csv": b"2"}
    way = "activity_data_show?id=0f8b1a7e-1111&object_type=package" if query else "package_show?id=turtles"
    assert forge.requests[0].path == f"/api/3/action/{way}"


async def test_a_resource_that_lies_elsewhere_is_what_it_is_now(forge: Forge, fetching: Fetching) -> None:
    serve_ckan(forge, {"a.csv": b"1"}, url_type=None, size=7, hash="0" * 32)
    assert await fetching.fetch("CKAN", f"{forge.url}/dataset/turtles", f"turtles.v{PACKAGE_CHANGED_AT}") == {
        "a.csv": b"1"
    }


async def test_a_resource_without_address_is_left_out_and_one_without_name_has_its_id(
    forge: Forge, fetching: Fetching
) -> None:
    dataset = serve_ckan(forge, {"a.csv": b"1", "b.csv": b"2"}, url_type=None)
    forge.pages["/bare/"] = Page(body=b"bare")
    resources = dataset.body["result"]["resources"]
    resources[0]["url"] = ""
    resources[1]["url"] = f"{forge.url}/bare/"
    forge.pages["/api/3/action/package_show"] = dataset.page
    tree = await fetching.fetch("CKAN", f"{forge.url}/dataset/turtles", f"turtles.v{PACKAGE_CHANGED_AT}")
    assert tree == {"resource-1": b"bare"}


async def test_of_two_files_of_one_name_the_later_one_is_kept_and_that_is_told(
    forge: Forge, fetching: Fetching
) -> None:
    dataset = serve_ckan(forge, {"a.csv": b"1", "b.csv": b"2"}, url_type=None)
    forge.pages["/other/a.csv"] = Page(body=b"other")
    dataset.body["result"]["resources"][1]["url"] = f"{forge.url}/other/a.csv"
    forge.pages["/api/3/action/package_show"] = dataset.page
    tree = await fetching.fetch("CKAN", f"{forge.url}/dataset/turtles", f"turtles.v{PACKAGE_CHANGED_AT}")
    assert tree == {"a.csv": b"other"}
    assert fetching.lines[-1] == "Two files of the dataset are called a.csv: the later one is kept"


async def test_a_dataset_that_was_changed_since_is_launched_again(forge: Forge, fetching: Fetching) -> None:
    serve_ckan(forge, {"a.csv": b"1"})
    failed = await fetching.fails("CKAN", f"{forge.url}/dataset/turtles", "turtles.v1")
    assert (failed.code, "was changed after" in failed.message) == ("fetch_failed", True)


# Software Heritage


@pytest.mark.parametrize("kind", ["rev", "dir"])
async def test_a_directory_is_unpacked_with_its_programs_and_its_links(
    forge: Forge, fetching: Fetching, kind: str
) -> None:
    links = {
        "here": "a.txt",
        "sub/up": "../a.txt",
        "out": "../../x",
        "deep/down/l": "../../sub",
        "n": "deep/down/l/../..",
        "abs": "/etc/passwd",
    }
    tar = tarred({"a.txt": b"a", "sub/b": b"b"}, top=DIRECTORY, links=links, programs={"run": b"#!/bin/sh\n"})
    serve_software_heritage(forge, tar)
    digest = REVISION if kind == "rev" else DIRECTORY
    tree = await fetching.fetch("Swhid", f"swh:1:{kind}:{digest}", digest)
    kept = {name: links[name] for name in ("here", "sub/up", "deep/down/l")}
    assert tree == {"a.txt": b"a", "sub/b": b"b", "run": b"#!/bin/sh\n"} | kept
    mode = (fetching.target / "run").stat().st_mode
    assert (bool(mode & 0o100), mode & 0o7000) == (True, 0)
    assert not (fetching.target / "a.txt").stat().st_mode & 0o111
    assert fetching.lines[-1] == "3 links that lead elsewhere or nowhere are left out: out, n, abs"


async def test_the_vault_is_waited_for(forge: Forge, fetching: Fetching) -> None:
    serve_software_heritage(forge, tarred({"a.txt": b"a"}, top=f"swh:1:dir:{DIRECTORY}"))
    path = f"/swh/vault/flat/swh:1:dir:{DIRECTORY}/"
    vault = recorded("archive.softwareheritage.org_api_1_vault_flat")
    waiting = reply(vault.body | {"status": "pending", "progress_message": "Fetching content \x1b[2J"})
    done = forge.pages[path]
    assert isinstance(done, Page)
    forge.pages[path] = [reply(vault.body | {"status": "new"}), waiting, waiting, done]
    swhid = f"swh:1:dir:{DIRECTORY}"
    assert await fetching.fetch("Swhid", swhid, DIRECTORY) == {"a.txt": b"a"}
    assert fetching.lines == [
        f"Software Heritage packs {swhid}",
        f"Software Heritage packs {swhid}: Fetching content ?[2J",
        f"Fetching 1 file of {swhid}",
    ]
    assert [each.method for each in forge.requests if each.path == path] == ["POST", "GET", "GET", "GET"]


async def test_what_the_vault_can_t_pack_is_told(forge: Forge, fetching: Fetching) -> None:
    vault = recorded("archive.softwareheritage.org_api_1_vault_flat")
    failed_page = reply(vault.body | {"status": "failed", "progress_message": "Internal Server Error."})
    forge.pages[f"/swh/vault/flat/swh:1:dir:{DIRECTORY}/"] = failed_page
    failed = await fetching.fails("Swhid", f"swh:1:dir:{DIRECTORY}", DIRECTORY)
    assert failed.code == "fetch_failed"
    assert failed.message.endswith("could not pack swh:1:dir:4453cfbdab1a996658cd1a815711664ee7742380: "
                                   "Internal Server Error.")  # fmt: skip


# What holds for all


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size": 3}, "a.txt: what 127.0.0.1 sent is larger than what the archive lists (3 bytes, md5"),
        ({"size": 5}, "a.txt: what 127.0.0.1 sent is smaller than what the archive lists (5 bytes, md5"),
        ({"checksum": f"md5:{md5(b'else')}"}, "a.txt: what 127.0.0.1 sent is not what the archive lists (4 bytes, md5"),
    ],
)
async def test_a_file_that_is_not_what_the_archive_lists_is_refused(
    forge: Forge, fetching: Fetching, change: dict[str, Any], words: str
) -> None:
    listing = serve_zenodo(forge, "7", {"a.txt": b"text", "b.txt": b"b"})
    listing.body["entries"][0] |= change
    forge.pages["/zenodo/records/7/files"] = listing.page
    failed = await fetching.fails("Zenodo", "https://zenodo.org/records/7", "7")
    assert failed.code == "fetch_failed"
    assert failed.message.startswith(words)
    assert sum(each.path.endswith("a.txt/content") for each in forge.requests) == 3


async def test_a_transfer_that_fails_once_is_repeated(forge: Forge, fetching: Fetching) -> None:
    serve_zenodo(forge, "7", {"a.txt": b"text"})
    path = "/zenodo/records/7/files/a.txt/content"
    right = forge.pages[path]
    assert isinstance(right, Page)
    forge.pages[path] = [Page(503), Page(body=b"texx"), right]
    assert await fetching.zenodo() == {"a.txt": b"text"}


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/zenodo/records/7/files", "127.0.0.1 answered 429."),
        ("/zenodo/records/7/files/a.txt/content", "a.txt: 127.0.0.1 answered 429."),
    ],
)
async def test_a_server_that_asks_for_a_pause_of_a_day_is_not_waited_for(
    forge: Forge, fetching: Fetching, path: str, words: str
) -> None:
    serve_zenodo(forge, "7", {"a.txt": b"text"})
    forge.pages[path] = Page(429, {"Retry-After": "86400"})
    failed = await fetching.fails("Zenodo", "https://zenodo.org/records/7", "7")
    assert (failed.code, failed.message) == ("fetch_failed", words)
    assert sum(request.path == path for request in forge.requests) == 1


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (403, "ref_not_found", "does not give record 7 to everybody (it answered 403)"),
        (410, "ref_not_found", "does not have record 7 any more (it answered 410)"),
        (500, "fetch_failed", "answered 500"),
    ],
)
async def test_a_listing_that_does_not_come_is_told(
    forge: Forge, fetching: Fetching, status: int, code: str, words: str
) -> None:
    forge.pages["/zenodo/records/7/files"] = Page(status)
    failed = await fetching.fails("Zenodo", "https://zenodo.org/records/7", "7")
    assert failed.code == code
    assert words in failed.message


@pytest.mark.parametrize("body", [[], {"entries": {}}, {"entries": ["a"]}, {"entries": [{"key": "a"}]}, {}])
async def test_a_listing_of_another_form_is_not_understood(forge: Forge, fetching: Fetching, body: object) -> None:
    forge.pages["/zenodo/records/7/files"] = reply(body)
    failed = await fetching.fails("Zenodo", "https://zenodo.org/records/7", "7")
    assert failed.code == "fetch_failed"
    assert "answered in a form that is not understood" in failed.message


async def test_a_dataset_that_says_it_is_too_large_is_not_begun(forge: Forge, tmp_path: Path) -> None:
    serve_zenodo(forge, "7", {"a.txt": b"a" * 600, "b.txt": b"b" * 600})
    fetching = Fetching(forge, tmp_path, max_repository_bytes=1000)
    failed = await fetching.fails("Zenodo", "https://zenodo.org/records/7", "7")
    assert failed.code == "repository_too_large"
    assert not any(each.path.endswith("content") for each in forge.requests)


async def test_a_dataset_that_is_larger_than_it_says_is_ended(forge: Forge, tmp_path: Path) -> None:
    serve_ckan(forge, {"a.csv": b""}, url_type=None)
    forge.pages["/dataset/turtles/resource/0/download/a.csv"] = Page(body=_endless())
    fetching = Fetching(forge, tmp_path, max_repository_bytes=2**20)
    failed = await fetching.fails("CKAN", f"{forge.url}/dataset/turtles", f"turtles.v{PACKAGE_CHANGED_AT}")
    assert (failed.code, failed.message) == (
        "repository_too_large",
        "a.csv: The dataset is larger than the 1 MiB allowed here.",
    )


def _endless() -> Any:
    while True:
        yield b"x" * 65536


async def test_a_dataset_of_too_many_files_is_refused(forge: Forge, tmp_path: Path) -> None:
    serve_zenodo(forge, "7", {str(number): b"" for number in range(4)})
    failed = await Fetching(forge, tmp_path, max_repository_files=3).fails(
        "Zenodo", "https://zenodo.org/records/7", "7"
    )
    assert failed.code == "repository_too_large"
    assert failed.message.startswith("The dataset has more than the 3 files that are fetched here")


async def test_a_dataset_that_does_not_come_in_time_is_given_up(forge: Forge, tmp_path: Path) -> None:
    vault = recorded("archive.softwareheritage.org_api_1_vault_flat")
    forge.pages[f"/swh/vault/flat/swh:1:dir:{DIRECTORY}/"] = reply(vault.body | {"status": "pending"})
    fetching = Fetching(forge, tmp_path, fetch_timeout_seconds=0.5)
    failed = await fetching.fails("Swhid", f"swh:1:dir:{DIRECTORY}", DIRECTORY)
    assert (failed.code, failed.message) == ("fetch_failed", "The repository was not fetched within 0.5 seconds")


@pytest.mark.parametrize("way", ["named", "redirected"])
async def test_a_file_in_a_private_network_is_not_fetched(forge: Forge, tmp_path: Path, way: str) -> None:
    listing = serve_zenodo(forge, "7", {"a.txt": b"text"})
    inside = "http://10.0.0.1/a.txt"
    if way == "named":
        listing.body["entries"][0]["links"]["content"] = inside
        forge.pages["/zenodo/records/7/files"] = listing.page
    else:
        forge.pages["/zenodo/records/7/files/a.txt/content"] = Page(302, {"Location": inside})
    failed = await Fetching(forge, tmp_path).fails("Zenodo", "https://zenodo.org/records/7", "7")
    assert failed.code == "address_not_allowed"


@pytest.mark.parametrize("name", ["../a.txt", "/a.txt", "b/../../a.txt", "..", "a\0", "\ud800", "a" * 300])
async def test_a_name_that_can_t_be_one_here_is_refused(forge: Forge, fetching: Fetching, name: str) -> None:
    listing = serve_zenodo(forge, "7", {"a.txt": b"text", "b": b"b"})
    listing.body["entries"][0]["key"] = name
    forge.pages["/zenodo/records/7/files"] = listing.page
    failed = await fetching.fails("Zenodo", "https://zenodo.org/records/7", "7")
    assert failed.code == "build_failed"
    assert failed.message.startswith("A name in the dataset ")
