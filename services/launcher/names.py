"""Names of temporary users on the hub: BinderHub's name for the repository, with a suffix that only we can make."""

import base64
import hashlib
import hmac
import re
from urllib.parse import unquote, urlsplit

NAME_MAX_CHARS = 32

_SAFE = re.compile(r"[a-z0-9][a-z0-9-]*")
_UNSAFE = re.compile(r"[^a-z0-9]+")


def repo_part(repo_url: str) -> str:
    """Return the readable part of a user name: 1 to 32 characters of `[a-z0-9-]`, not beginning with a dash.

    It is BinderHub's name (`unique_name_from_repo`) if that has only these characters. In any other name, everything
    between letters and digits becomes one dash: a hub, its proxy, a server, DNS and Kubernetes quote different
    characters, and a route that one of them spells in another way leads nowhere. Unlike escapism, this neither escapes
    nor adds a hash: the suffix tells users apart, so this part only has to be readable.
    """
    is_scp_like = "://" not in repo_url and ":" in repo_url
    path = repo_url.partition(":")[2] if is_scp_like else urlsplit(repo_url).path
    name = path.strip("/").replace("/", "-").lower().removesuffix(".git")
    if not _SAFE.fullmatch(name):
        name = _UNSAFE.sub("-", unquote(name).lower()).strip("-") or "repo"
    return f"{name[:15]}-{name[-15:]}" if len(name) > NAME_MAX_CHARS else name


def suffix(secret: str, launch_ref: str, attempt: int = 0) -> str:
    """Return eight characters of `[a-z2-7]` that prove that this installation made the name."""
    digest = hmac.new(secret.encode(), f"user:{launch_ref}:{attempt}".encode(), hashlib.sha256).digest()
    return base64.b32encode(digest).decode().lower()[:8]


def user_name(secret: str, repo_url: str, launch_ref: str, attempt: int = 0) -> str:
    """Return the temporary user of one start: at most 41 characters, as safe as `repo_part`."""
    return f"{repo_part(repo_url)}-{suffix(secret, launch_ref, attempt)}"


def is_user_of(user: str, secret: str, launch_ref: str, attempt: int = 0) -> bool:
    """Return whether this installation made a user's name for a launch. Only the suffix counts, not the readable part.

    The readable part may have been made in another way, before an upgrade.
    """
    return hmac.compare_digest(user.rpartition("-")[2], suffix(secret, launch_ref, attempt))
