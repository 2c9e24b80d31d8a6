"""The file of Redis's users for one installation, made from `users.acl`, which has the rights of each."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from string import Template

TEMPLATE = Path(__file__).with_name("users.acl")
USERS = tuple(name.lower() for name in re.findall(r"\$\{(\w+)_SHA256\}", TEMPLATE.read_text()))
"""The services, `health`, which may only ask whether Redis answers, and `admin`, which may do everything."""

_LITERAL = re.compile(r"[\w:.-]+", re.ASCII)


def redis_user_name(user: str, name: str = "bindery") -> str:
    """Return the name in Redis of one of `USERS`; `name` tells apart installations that share a Redis."""
    return f"{name}-{user}"


def users_file(prefix: str, passwords: Mapping[str, str], name: str = "bindery") -> str:
    """Return the file of users, for `aclfile` in the configuration of Redis. It holds only hashes of the passwords.

    All keys of the installation begin with `prefix`: `BINDERY_REDIS_PREFIX`, a colon, and `BINDERY_INSTALLATION_ID`.
    `passwords` are those of all `USERS`.

    Raise `ValueError` for a prefix or name that Redis would read as a pattern, or as more than one word.
    """
    for what, text in (("prefix", prefix), ("name", name)):
        if not _LITERAL.fullmatch(text):
            raise ValueError(f"{text!r} can't be the {what} of Redis users: only letters, digits and _ : . - can.")

    hashes = {f"{user.upper()}_SHA256": hashlib.sha256(passwords[user].encode()).hexdigest() for user in USERS}
    return Template(TEMPLATE.read_text()).substitute(NAME=name, PREFIX=prefix, **hashes)
