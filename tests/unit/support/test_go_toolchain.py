"""A Go is taken for recent enough by its version, and what is downloaded is checked as `go` does it."""

import io
import json
import zipfile
from pathlib import Path

import pytest

from tests.support import compose_plugin
from tests.support.go_toolchain import NoGoError, is_recent, module_archive, module_folder, module_sum

FOR_A_LATER_GO = {"Error": "requires go >= 1.99", "Zip": "/modules/v1.zip", "Sum": "h1:abc="}


def go_that_prints(folder: Path, downloaded: dict[str, str]) -> dict[str, str]:
    """Return the environment of a `go` that says this of every download, and fails if there is an error."""
    program = folder / "go"
    program.write_text(f"#!/bin/sh\necho '{json.dumps(downloaded)}'\nexit {int('Error' in downloaded)}\n")
    program.chmod(0o755)
    return {"PATH": f"{folder}:/bin:/usr/bin"}


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("go version go1.24.9 linux/amd64", True),
        ("go version go1.26 linux/amd64", True),
        ("go version go1.24.8 linux/amd64", False),
        ("go version go1.19.8 linux/amd64", False),
        ("", False),
    ],
)
def test_a_go_is_recent_from_the_version_that_compose_asks_for(version: str, expected: bool) -> None:
    assert is_recent(version) == expected


def test_a_modules_sum_is_that_of_go_sum() -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as module:
        module.writestr("rsc.io/b@v1/b.txt", "b")
        module.writestr("rsc.io/b@v1/a.txt", "")
    with zipfile.ZipFile(archive) as module:
        assert module_sum(module) == "h1:1HSr66idhcQrbPv6v7ztxS10ojQ7fP2Ggz2Oc51bMxY="


def test_a_module_for_a_later_go_gives_its_archive_but_no_folder(tmp_path: Path) -> None:
    environ = go_that_prints(tmp_path, FOR_A_LATER_GO)

    assert module_archive("example.org/a", "v1", "h1:abc=", environ) == Path("/modules/v1.zip")
    with pytest.raises(NoGoError, match=r"requires go >= 1\.99"):
        module_folder("example.org/a", "v1", "h1:abc=", environ)


def test_a_module_with_another_sum_is_refused(tmp_path: Path) -> None:
    environ = go_that_prints(tmp_path, FOR_A_LATER_GO)

    with pytest.raises(NoGoError, match="has the sum h1:abc=, not h1:def="):
        module_archive("example.org/a", "v1", "h1:def=", environ)


def test_a_module_that_is_not_there_is_refused_with_the_reason(tmp_path: Path) -> None:
    environ = go_that_prints(tmp_path, {"Error": "no such host"})

    with pytest.raises(NoGoError, match=r"example\.org/a@v1 failed: .*no such host"):
        module_archive("example.org/a", "v1", "h1:abc=", environ)


@pytest.mark.parametrize(
    ("version", "expected"), [("2.40.3", True), ("v2.24.0", True), ("2.23.3", False), ("1.29.2", False), ("", False)]
)
def test_a_compose_that_is_installed_is_used_from_2_24(version: str, expected: bool) -> None:
    assert compose_plugin.is_recent(version) == expected
