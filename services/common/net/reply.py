"""The reply to an HTTP request, whichever client sent it."""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from multidict import MultiMapping

from services.common.models.errors import BinderyError


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A reply whose body has been read whole. Header names are case-insensitive, and may occur repeatedly."""

    status: int
    headers: MultiMapping[str]
    body: bytes = b""
    url: str = ""
    """The URL that answered, from a client that follows redirects; else empty."""

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    def json(self) -> Any:
        """Return the body, parsed as JSON. Raise `ValueError`."""
        return json.loads(self.body)


class ReplyTooLargeError(BinderyError):
    """A body that was not read to its end, as it is too long: `provider_unavailable` for who does not expect it."""

    def __init__(self, host: str, max_bytes: int) -> None:
        super().__init__("provider_unavailable", f"{host} sent more than {max_bytes} bytes.")


@dataclass(frozen=True, kw_only=True)
class Download:
    """A reply whose body is read as it arrives: its status, the host that sent it, and the parts of the body.

    The names of `headers` are in lower case.
    """

    status: int
    host: str
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]
