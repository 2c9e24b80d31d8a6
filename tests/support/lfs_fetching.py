"""Fetching repositories of a forge that keep files in Git LFS."""

from pathlib import Path

from services.common.git.fetch import fetch_repository
from services.common.net.networks import NetworkPolicy
from tests.support.bare_repos import Content
from tests.support.forge import Forge
from tests.support.lfs_objects import SECRET

LOOPBACK = NetworkPolicy.of("127.0.0.0/8")
ATTRIBUTES = "*.npy filter=lfs diff=lfs merge=lfs -text\n"
DATA = b"\x93NUMPY" + bytes(range(256)) * 20


def repository(forge: Forge, files: dict[str, Content], name: str = "repo") -> str:
    """Make a repository whose `*.npy` are kept in Git LFS."""
    return forge.create_repo("org", name, {".gitattributes": ATTRIBUTES} | files)


async def fetch(
    forge: Forge,
    sha: str,
    target: Path,
    *,
    name: str = "repo",
    max_lfs_bytes: int = 2**20,
    max_bytes: int = 2**24,
    policy: NetworkPolicy = LOOPBACK,
    seconds: float = 60.0,
) -> list[str]:
    """Fetch a repository, see that no secret is in a line, and return the lines about Git LFS."""
    lines: list[str] = []
    await fetch_repository(
        f"{forge.url}/org/{name}",
        sha,
        target,
        policy=policy,
        timeout_seconds=seconds,
        on_line=lines.append,
        max_bytes=max_bytes,
        max_lfs_bytes=max_lfs_bytes,
    )
    assert not any(SECRET in line or SECRET.split()[1] in line for line in lines)
    return [line for line in lines if "Git LFS" in line]


def missing(path: str, reason: str) -> list[str]:
    """Return the line for one file that was not fetched."""
    return [f"1 file is kept in Git LFS; its contents were not fetched: {path}. {reason}"]
