"""Private repositories: what a credential opens, by our requests and by git's own, and where it does not go."""

from pathlib import Path

import pytest

from services.common.git import remote
from services.common.git.fetch import fetch_repository
from services.common.git.remote import list_refs
from services.common.models.errors import BinderyError
from services.common.net.credential import ScopedCredential
from services.common.net.networks import NetworkPolicy
from tests.support.bare_repos import Content, Gitlink
from tests.support.forge import Forge
from tests.support.lfs_objects import LfsObjects

LOOPBACK = NetworkPolicy.of("127.0.0.0/8")
TOKEN = "t0ken-of-ann"


def credential(scope: str, token: str = TOKEN) -> ScopedCredential:
    return ScopedCredential(scope=scope, username="ann", password=token)


async def fetch(url: str, ref: str, target: Path, login: ScopedCredential | None) -> list[str]:
    lines: list[str] = []
    await fetch_repository(
        url, ref, target, policy=LOOPBACK, timeout_seconds=120, on_line=lines.append, credential=login
    )
    return lines


def logins(forge: Forge) -> set[str]:
    """Return the paths of repositories that were asked for with a login."""
    asked = [request.path for request in forge.requests if "authorization" in request.headers]
    return {"/".join(path.split("/")[:3]) for path in asked}


@pytest.mark.parametrize("way", ["advertisement", "protocol 2", "git itself"])
async def test_refs_are_listed(forge: Forge, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    sha = forge.create_repo("org", "repo", {"a": "1"})
    forge.private["org/repo"] = TOKEN
    forge.speaks_v2 = way == "protocol 2"
    if way != "advertisement":
        monkeypatch.setattr(remote, "ADVERTISEMENT_BYTES", 1)
    listing = await list_refs(
        f"{forge.url}/org/repo", "main", policy=LOOPBACK, credential=credential(f"{forge.url}/org/repo")
    )
    assert listing.refs == {"refs/heads/main": sha}


async def test_a_repository_is_fetched_with_history_and_large_files(forge: Forge, tmp_path: Path) -> None:
    forge.lfs = LfsObjects()
    forge.create_repo("org", "repo", {"a": "1"})
    sha = forge.commit("org", "repo", {".gitattributes": "*.bin filter=lfs\n", "b.bin": forge.lfs.add(b"large")})
    forge.private["org/repo"] = TOKEN
    lines = await fetch(f"{forge.url}/org/repo", sha, tmp_path / "at", credential(f"{forge.url}/org/repo"))
    assert (tmp_path / "at" / "b.bin").read_bytes() == b"large"
    assert not [
        path for path in (tmp_path / "at" / ".git").rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()
    ]
    assert TOKEN not in "".join(lines)


@pytest.mark.parametrize("login", [None, "another-token"])
async def test_without_the_right_one_nothing_is_told(forge: Forge, tmp_path: Path, login: str | None) -> None:
    sha = forge.create_repo("org", "repo", {"a": "1"})
    forge.private["org/repo"] = TOKEN
    with pytest.raises(BinderyError) as failed:
        await fetch(f"{forge.url}/org/repo", sha, tmp_path / "at", credential(forge.url, login) if login else None)
    assert failed.value.code == "ref_not_found"
    assert ("that the credential may read" in failed.value.detail) == (login is not None)


async def test_a_submodule_outside_of_the_scope_is_asked_for_without_it(forge: Forge, tmp_path: Path) -> None:
    other = forge.create_repo("org", "other", {"b": "2"})
    files: dict[str, Content] = {
        ".gitmodules": '[submodule "lib"]\n\tpath = lib\n\turl = ../other\n',
        "lib": Gitlink(other),
    }
    sha = forge.create_repo("org", "repo", files)
    forge.private["org/repo"] = TOKEN
    await fetch(f"{forge.url}/org/repo", sha, tmp_path / "at", credential(f"{forge.url}/org/repo"))
    assert (tmp_path / "at/lib/b").read_text() == "2"
    assert logins(forge) == {"/org/repo"}

    forge.private["org/other"] = TOKEN
    with pytest.raises(BinderyError, match="Submodule lib: There is no public git repository"):
        await fetch(f"{forge.url}/org/repo", sha, tmp_path / "again", credential(f"{forge.url}/org/repo"))
    await fetch(f"{forge.url}/org/repo", sha, tmp_path / "by the host's", credential(forge.url))
    assert (tmp_path / "by the host's/lib/b").read_text() == "2"
