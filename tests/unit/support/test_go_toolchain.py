"""A Go is taken for recent enough by its version, and what is downloaded is checked as `go` does it."""

import io
import zipfile

import pytest

from tests.support import compose_plugin
from tests.support.go_toolchain import is_recent, module_sum


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


@pytest.mark.parametrize(
    ("version", "expected"), [("2.40.3", True), ("v2.24.0", True), ("2.23.3", False), ("1.29.2", False), ("", False)]
)
def test_a_compose_that_is_installed_is_used_from_2_24(version: str, expected: bool) -> None:
    assert compose_plugin.is_recent(version) == expected
