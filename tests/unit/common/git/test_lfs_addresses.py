"""Addresses of Git LFS: each is checked, and what an answer says for one of them goes there alone."""

import hashlib
from pathlib import Path

import pytest

from tests.support.forge import Forge, Page
from tests.support.lfs_fetching import DATA, fetch, missing, repository
from tests.support.lfs_objects import BATCH, OBJECTS, SECRET, LfsObjects


async def test_lfsconfig_names_another_server_and_no_program(
    forge: Forge, lfs: LfsObjects, other_forge: Forge, target: Path
) -> None:
    assert other_forge.lfs is not None
    mark = target.with_name("ran")
    config = (
        f"[lfs]\n\turl = {other_forge.url}/some/where/info/lfs\n\tstandalonetransferagent = x\n"
        f'[lfs "customtransfer.x"]\n\tpath = touch {mark}\n[credential]\n\thelper = !touch {mark}\n'
    )
    sha = repository(forge, {"data.npy": other_forge.lfs.add(DATA), ".lfsconfig": config})
    await fetch(forge, sha, target)
    assert (target / "data.npy").read_bytes() == DATA
    assert not any(BATCH in request.path for request in forge.requests)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://10.0.0.8/info/lfs", "10.0.0.8 may not be reached from here: its address is not public but private."),
        ("http://169.254.169.254/lfs", "169.254.169.254 may not be reached from here: its address is not public but"),
        ("git@10.0.0.8:org/repo.git/info/lfs", "10.0.0.8 may not be reached from here: its address is not public but"),
        ("file:///etc", "Unsupported git url file:///etc, protocol file not in http, https."),
        ("http://me:hunter2@127.0.0.1/lfs", "An address must not hold a password or a user name"),
        (
            "http://127.0.0.1/lfs?token=hunter2",
            "http://127.0.0.1/lfs?token=[secret] is not the URL of",
        ),
        ("../../../../lfs", "'../../../../lfs' leads out of 127.0.0.1."),
    ],
)
async def test_the_address_in_lfsconfig_is_checked(
    forge: Forge, lfs: LfsObjects, target: Path, url: str, reason: str
) -> None:
    sha = repository(forge, {"data.npy": lfs.add(DATA), ".lfsconfig": f'[lfs]\n\turl = "{url}"\n'})
    (line,) = await fetch(forge, sha, target)
    assert missing("data.npy", reason)[0] in line
    assert "hunter2" not in line


async def test_an_lfsconfig_that_is_nonsense_is_said(forge: Forge, lfs: LfsObjects, target: Path) -> None:
    sha = repository(forge, {"data.npy": lfs.add(DATA), ".lfsconfig": "[lfs\n"})
    (line,) = await fetch(forge, sha, target)
    assert ".lfsconfig can't be read" in line


@pytest.mark.parametrize(
    ("href", "reason"),
    [
        ("http://10.0.0.8/x/", "10.0.0.8 may not be reached from here: its address is not public but private."),
        ("file:///etc/", "127.0.0.1 names an address for them that is not followed."),
        ("http://me:hunter2@127.0.0.1/", "127.0.0.1 names an address for them that is not followed."),
    ],
)
async def test_an_address_in_an_answer_is_checked(
    forge: Forge, lfs: LfsObjects, target: Path, href: str, reason: str
) -> None:
    lfs.href = href
    sha = repository(forge, {"data.npy": lfs.add(DATA)})
    (line,) = await fetch(forge, sha, target)
    assert missing("data.npy", reason)[0] in line
    assert "hunter2" not in line


async def test_headers_of_an_answer_do_not_follow_a_redirect_to_another_host(
    forge: Forge, lfs: LfsObjects, other_forge: Forge, target: Path
) -> None:
    pointer = lfs.add(DATA)
    oid = hashlib.sha256(DATA).hexdigest()
    forge.pages[f"/moved/{oid}"] = Page(302, {"Location": f"{other_forge.url}/there"})
    other_forge.pages["/there"] = Page(200, {}, DATA)
    lfs.href = f"{forge.url}/moved/"
    await fetch(forge, repository(forge, {"data.npy": pointer}), target)
    assert (target / "data.npy").read_bytes() == DATA
    (asked,) = [request for request in forge.requests if request.path.startswith("/moved")]
    assert asked.headers["x-lfs-key"] == asked.headers["authorization"] == SECRET
    (redirected,) = other_forge.requests
    assert SECRET not in redirected.headers.values()


async def test_no_secret_goes_to_the_batch_or_into_a_header_of_the_connection(
    forge: Forge, lfs: LfsObjects, target: Path
) -> None:
    pointer = lfs.add(DATA)
    oid = hashlib.sha256(DATA).hexdigest()
    odd = {
        "Host": "elsewhere",
        "X-Bad": "a\r\nX-Injected: b",
        "Range": "bytes=0-3",
        "X-Lfs-Key": SECRET,
        "X-None": None,
    }
    lfs.entry = {"actions": {"download": {"href": f"{forge.url}{OBJECTS}{oid}", "header": odd | {"X-Lfs-Key": SECRET}}}}
    await fetch(forge, repository(forge, {"data.npy": pointer}), target)
    assert (target / "data.npy").read_bytes() == DATA
    for request in forge.requests:
        assert request.headers["host"] == f"127.0.0.1:{forge.port}"
        assert not {"range", "x-injected", "x-bad", "x-none"} & request.headers.keys()
        assert (SECRET in request.headers.values()) == request.path.startswith(OBJECTS)


async def test_no_signature_of_an_address_is_in_a_line(forge: Forge, lfs: LfsObjects, target: Path) -> None:
    pointer = lfs.add(DATA)
    oid = hashlib.sha256(DATA).hexdigest()
    forge.pages[f"/moved/{oid}"] = Page(302, {"Location": "ftp://127.0.0.1/x?X-Amz-Signature=hunter2"})
    lfs.href = f"{forge.url}/moved/"
    lines = await fetch(forge, repository(forge, {"data.npy": pointer}), target)
    assert lines == missing("data.npy", "127.0.0.1 redirects to something that is not followed: 'ftp://127.0.0.1/x'.")
