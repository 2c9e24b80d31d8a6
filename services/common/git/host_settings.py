"""Settings of forges of which there may be several: where each one is, and its tokens."""

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from services.common.net.hosts import plain_host

_PREFIX = re.compile(r"[a-z][a-z0-9_-]{0,63}")


def _web_address(value: str) -> str:
    """Return an address without a final slash. Raise `ValueError`, which quotes no login, if it is none."""
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("set it to an address such as https://gitlab.example.org")
    if "@" in parts.netloc:
        raise ValueError("no address has a login in it: set `token`")
    return value.rstrip("/")


def _prefix(value: str) -> str:
    if not _PREFIX.fullmatch(value):
        raise ValueError(f"{value!r} can't be the prefix of links: it has small letters, digits, - and _")
    return value


Prefix = Annotated[str, AfterValidator(_prefix)]
"""The part of a link that names its provider."""


def _host(value: str) -> str:
    name, colon, port = value.rpartition(":") if ":" in value else (value, "", "")
    if plain_host(name) != name or (colon and not port.isdecimal()):
        raise ValueError(f"{value!r} can't be a host: it has small letters, digits, dots and -, and perhaps a port")
    return value


Host = Annotated[str, AfterValidator(_host)]
"""The name of a host, as links have it."""


class HostSettings(BaseModel):
    """One forge: its address, and tokens for its API, separated by commas, which are used in turn."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    url: Annotated[str, AfterValidator(_web_address)]
    token: SecretStr = Field(SecretStr(""))
