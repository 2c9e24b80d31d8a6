"""What ties together the log lines of one launch, in whatever service: the request that began it, and its `launch_ref`.

Both are bound to the context of whoever works for the launch. They go along with each call of another service of ours,
and no further, and lie in the record of each noun, for who goes on with it when its process has died.
"""

import re
import secrets
from collections.abc import Mapping

from structlog.contextvars import get_contextvars

REQUEST_HEADER = "X-Request-ID"
LAUNCH_HEADER = "Bindery-Launch-Ref"
_HEADERS = {"request_id": REQUEST_HEADER, "launch_ref": LAUNCH_HEADER}
_WELL_FORMED = re.compile(r"[A-Za-z0-9._-]{8,64}")


def outgoing_headers() -> dict[str, str]:
    """The headers of a call to another service of ours that is made here and now."""
    known = get_contextvars()
    return {header: str(known[name]) for name, header in _HEADERS.items() if known.get(name)}


def from_headers(headers: Mapping[str, str], *, of_service: bool) -> dict[str, str]:
    """What a request is logged with: what it came with if that is well formed, else an id of its own.

    Whose launch a request is made for only our own services may say.
    """
    found = {name: value for name, header in _HEADERS.items() if (value := headers.get(header, ""))}
    found = {name: value for name, value in found.items() if _WELL_FORMED.fullmatch(value)}
    if not of_service:
        found.pop("launch_ref", None)
    return {"request_id": secrets.token_hex(8)} | found


def to_fields() -> dict[str, str]:
    """Fields for the record of a noun that is begun here and now."""
    known = get_contextvars()
    return {"request_id": str(known["request_id"])} if known.get("request_id") else {}


def from_fields(fields: Mapping[str, str]) -> dict[str, str]:
    """What to bind for who goes on with a noun: with what it was begun."""
    return {name: fields[name] for name in _HEADERS if fields.get(name)}
