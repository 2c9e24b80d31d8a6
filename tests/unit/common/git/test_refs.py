"""Names of refs, against what git says of them."""

import subprocess

import pytest

from services.common.git.refs import BRANCHES, RemoteRefs, is_name

SHA = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    "name",
    [
        "main", "a/b", "-u", "HEAD", "@", "a@b", "@{", "a@{1}", "größe", "a\u00a0b", "a b", "a\tb", "a\x7fb", "a~b",
        "a^b", "a:b", "a?", "a*", "a[b", "a\\b", ".a", "a/.b", "a..b", "a.", "a./b", "a.lock", "a.lock/b", "a.locks",
        "/a", "a/", "a//b", "caf\udce9", "#12", "{a}", "%2F", "v1.0",
    ],
)  # fmt: skip
def test_a_name_is_what_git_takes_for_one(name: str) -> None:
    command = ["git", "check-ref-format", f"{BRANCHES}{name}"]
    assert is_name(name) is (subprocess.run(command, check=False).returncode == 0)


def test_names_that_git_would_not_write_are_left_out() -> None:
    names = ("refs/heads/main", "refs/heads/a..b", "refs/heads/HEAD", "refs/tags/v1", "refs/tags/", "refs/pull/1/head")
    refs = RemoteRefs(dict.fromkeys(names, SHA), head="refs/heads/a..b")
    assert (set(refs.branches), set(refs.tags), refs.default_branch) == ({"main"}, {"v1"}, "")
