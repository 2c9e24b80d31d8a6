"""The repo2docker image from a pinned base installs the packages of that base's day, or says why it can't."""

import subprocess
from pathlib import Path

import pytest

from tests.support.paths import CHECKOUT

SCRIPT = CHECKOUT / "deploy" / "images" / "repo2docker" / "use-snapshot.sh"
SOURCES = """Types: deb
# https://snapshot.example/archive/debian/20250520T000000Z
URIs: https://mirror.example/debian
Suites: trixie trixie-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.pgp

Types: deb
# https://snapshot.example/archive/debian-security/20250520T000000Z
URIs: https://mirror.example/debian-security
Suites: trixie-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.pgp
"""


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """Sources as they lie in Debian's own images."""
    path = tmp_path / "sources.list.d" / "debian.sources"
    path.parent.mkdir()
    path.write_text(SOURCES)
    return path


def run(apt: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", str(SCRIPT), str(apt)], capture_output=True, text=True, timeout=30, check=False)


def test_every_source_becomes_the_archive_that_the_base_was_made_from(tmp_path: Path, sources: Path) -> None:
    assert run(tmp_path).returncode == 0
    text = sources.read_text()
    uris = [line for line in text.splitlines() if line.startswith("URIs: ")]
    assert uris == [
        "URIs: https://snapshot.example/archive/debian/20250520T000000Z",
        "URIs: https://snapshot.example/archive/debian-security/20250520T000000Z",
    ]
    assert text.count("Signed-By: /usr/share/keyrings/debian-archive-keyring.pgp") == 2, "signatures are checked still"
    conf = (tmp_path / "apt.conf.d" / "99snapshot").read_text()
    assert conf == 'Acquire::Check-Valid-Until "false";\n', "an archive's lists are older than they may be elsewhere"


def test_a_base_that_does_not_name_its_archive_is_refused_and_left_as_it_was(tmp_path: Path, sources: Path) -> None:
    half = SOURCES.replace("# https://snapshot.example/archive/debian-security/20250520T000000Z\n", "")
    sources.write_text(half)
    result = run(tmp_path)
    assert result.returncode == 1
    assert "don't all say which archive they were made from" in result.stderr
    assert "Take one of Debian's own images for BASE, by its digest, or build without SNAPSHOT." in result.stderr
    assert sources.read_text() == half
    assert not (tmp_path / "apt.conf.d").exists()
