"""Fills in the file of Redis's users for one installation. What each may do stands in `users.acl`."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from string import Template

TEMPLATE = Path(__file__).with_name("users.acl")
USERS = tuple(name.lower() for name in re.findall(r"\$\{(\w+)_SHA256\}", TEMPLATE.read_text()))
"""The services, `health`, who may ask whether Redis lives and nothing else, and `admin`, who may do everything."""

_LITERAL = re.compile(r"[\w:.-]+", re.ASCII)


def user_name(user: str, name: str = "bindery") -> str:
    """What one of `USERS` is called in Redis; `name` tells installations apart that share one."""
    return f"{name}-{user}"


def users_file(prefix: str, passwords: Mapping[str, str], name: str = "bindery") -> str:
    """The file of users, for `aclfile` in the configuration of Redis. It has hashes of the passwords alone.

    `prefix` is what all keys of the installation begin with: `BINDERY_REDIS_PREFIX`, a colon, and
    `BINDERY_INSTALLATION_ID`. `passwords` are those of all `USERS`.

    Raises `ValueError` for a prefix or name that Redis would read as a pattern, or as more than one word.
    """
    for what, text in (("prefix", prefix), ("name", name)):
        if not _LITERAL.fullmatch(text):
            raise ValueError(f"{text!r} can't be the {what} of Redis users: only letters, digits and _ : . - can.")
    hashes = {f"{user.upper()}_SHA256": hashlib.sha256(passwords[user].encode()).hexdigest() for user in USERS}
    return Template(TEMPLATE.read_text()).substitute(NAME=name, PREFIX=prefix, **hashes)
