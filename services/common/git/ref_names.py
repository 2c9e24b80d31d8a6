"""Refs that do not say whose commit they name.

A forge answers for a repository with the commits of its copies (forks), and of what others propose to it, too. So a
commit by its hash may be anybody's, and a ref such as `refs/pull/1/head` is.
"""

import re

_HASH = re.compile(r"[0-9a-fA-F]{7,64}")
_OWN = ("refs/heads/", "refs/tags/", "refs/remotes/")
_PROPOSED = re.compile(r"(?:pull|pull-requests|merge-requests)/[0-9]+/.+")


def is_hash(ref: str) -> bool:
    """Return whether a ref can be a commit's hash, or the beginning of one. A branch may have such a name, too."""
    return _HASH.fullmatch(ref) is not None


def is_proposed(ref: str) -> bool:
    """Return whether a ref is one that a forge keeps for what somebody proposes to a repository."""
    if ref.startswith("refs/"):
        return not ref.startswith(_OWN)
    return _PROPOSED.fullmatch(ref) is not None


def may_be_anybodys(ref: str) -> bool:
    """Return whether a ref may name a commit that is in none of the repository's branches and tags."""
    return is_hash(ref) or is_proposed(ref)
