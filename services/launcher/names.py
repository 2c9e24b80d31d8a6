"""What users on the hub are called, as BinderHub calls them, with a suffix that only we can make."""

import base64
import hashlib
import hmac
import re
from urllib.parse import unquote, urlsplit

_SAFE = re.compile(r"[a-z0-9][a-z0-9-]*")
_UNSAFE = re.compile(r"[^a-z0-9]+")


def repo_part(repo_url: str) -> str:
    """The readable part of a user name: 1 to 32 characters of `[a-z0-9-]`, the first of which is no dash.

    BinderHub's name (`unique_name_from_repo`) where that is of these characters. In any other, whatever stands between
    letters and digits becomes one dash: a hub, its proxy, a server, DNS and Kubernetes each quote other characters, and
    a route that one of them spells in its own way leads nowhere. Nothing is escaped and no hash is added, as escapism
    does: the suffix already tells users apart, so this part is only there to be read.
    """
    is_scp_like = "://" not in repo_url and ":" in repo_url
    path = repo_url.partition(":")[2] if is_scp_like else urlsplit(repo_url).path
    name = path.strip("/").replace("/", "-").lower().removesuffix(".git")
    if not _SAFE.fullmatch(name):
        name = _UNSAFE.sub("-", unquote(name).lower()).strip("-") or "repo"
    return f"{name[:15]}-{name[-15:]}" if len(name) > 32 else name


def suffix(secret: str, launch_ref: str, attempt: int = 0) -> str:
    """Eight characters of `[a-z0-9]` that prove that this installation made the name."""
    digest = hmac.new(secret.encode(), f"user:{launch_ref}:{attempt}".encode(), hashlib.sha256).digest()
    letters = base64.b32encode(digest).decode().lower()
    return letters[:8]


def user_name(secret: str, repo_url: str, launch_ref: str, attempt: int = 0) -> str:
    """The temporary user of one start: at most 41 characters, and as safe as `repo_part`."""
    return f"{repo_part(repo_url)}-{suffix(secret, launch_ref, attempt)}"


def is_user_of(user: str, secret: str, launch_ref: str, attempt: int = 0) -> bool:
    """Whether this installation made a user's name for a launch: its suffix says so, however the rest was made."""
    return hmac.compare_digest(user.rpartition("-")[2], suffix(secret, launch_ref, attempt))
