"""Request id and `launch_ref`, which tie together the log lines that one launch causes in all services.

Both are bound to the logging context of the tasks that work for the launch. They are sent with each call to another of
our services, and to no one else. They are stored in each record, so that a process that adopts the record logs the
same ids.
"""

import re
import secrets
from collections.abc import Mapping

from structlog.contextvars import get_contextvars

REQUEST_HEADER = "X-Request-ID"
LAUNCH_HEADER = "Bindery-Launch-Ref"
SERVICE_HEADER = "Bindery-Service"
"""Header of a call between our services: the name of the service that is meant."""
_HEADERS = {"request_id": REQUEST_HEADER, "launch_ref": LAUNCH_HEADER}
_WELL_FORMED = re.compile(r"[A-Za-z0-9._-]{8,64}")


def outgoing_headers() -> dict[str, str]:
    """Return the headers for a call to another of our services, made in the current context."""
    bound = get_contextvars()
    return {header: str(bound[name]) for name, header in _HEADERS.items() if bound.get(name)}


def from_headers(headers: Mapping[str, str], *, of_service: bool) -> dict[str, str]:
    """Return the fields to log a request with: its own ids if they are well formed, or else a new request id.

    Only a request `of_service`, from one of our own services, may name the launch that it is made for.
    """
    fields = {"request_id": secrets.token_hex(8)}
    for name, header in _HEADERS.items():
        if name == "launch_ref" and not of_service:
            continue
        value = headers.get(header, "")
        if _WELL_FORMED.fullmatch(value):
            fields[name] = value
    return fields


def to_fields() -> dict[str, str]:
    """Return the fields to store in a record that is created in the current context."""
    request_id = get_contextvars().get("request_id")
    return {"request_id": str(request_id)} if request_id else {}


def from_fields(fields: Mapping[str, str]) -> dict[str, str]:
    """Return the fields to bind for work on a stored record: the ids that it was created with."""
    return {name: fields[name] for name in _HEADERS if fields.get(name)}
