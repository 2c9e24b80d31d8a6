"""Refs that do not say whose commit they name."""

import pytest

from services.common.git.ref_names import is_proposed, may_be_anybodys


@pytest.mark.parametrize(
    ("ref", "is_doubtful"),
    [
        ("main", False), ("HEAD", False), ("refs/heads/pull/1/x", False), ("refs/tags/v1", False), ("v1.0", False),
        ("feature/pull", False), ("pull/me", False), ("deadbee", True), ("DEADBEEF" * 5, True), ("ab" * 32, True),
        ("abcdef", False), ("refs/pull/1/head", True), ("pull/1/merge", True), ("refs/merge-requests/7/head", True),
        ("merge-requests/7/head", True), ("refs/changes/34/1234/1", True),
    ],
)  # fmt: skip
def test_a_hash_and_a_proposal_may_be_anybodys(ref: str, is_doubtful: bool) -> None:
    assert may_be_anybodys(ref) is is_doubtful


def test_a_hash_alone_is_no_proposal() -> None:
    assert not is_proposed("ab" * 20)
    assert is_proposed("refs/pull/1/head")
