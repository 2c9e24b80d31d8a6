"""The gateway of `make up` on this machine: its address and its start token, as its data folder has them."""

import json
import os
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

_DATA_DIR = Path(__file__).resolve().parent.parent / ".bindery"


def is_loopback(url: str) -> bool:
    """Return whether the host of `url` is this machine."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def start_token(gateway: str, environ: Mapping[str, str] = os.environ) -> str:
    """Return the token for `gateway`, an address without a final slash; empty if there is none for it.

    `BINDERY_START_TOKEN` is for any gateway on this machine. The token of the data folder is only for the addresses of
    the `make up` that runs there, since another program may listen at another name or port.
    """
    if not is_loopback(gateway):
        return ""
    if token := environ.get("BINDERY_START_TOKEN"):
        return token

    if gateway not in _recorded_addresses(environ):
        return ""

    try:
        return (_run_dir(environ) / "start-token").read_text().strip()
    except (OSError, ValueError):  # it was started without one
        return ""


def running_gateway(environ: Mapping[str, str] = os.environ) -> str:
    """Return the first address of the `make up` that runs in the data folder; empty if none runs."""
    return next(iter(_recorded_addresses(environ)), "")


def _run_dir(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("BINDERY_DATA_DIR") or _DATA_DIR).expanduser() / "run"


def _recorded_addresses(environ: Mapping[str, str]) -> list[str]:
    """Return the addresses in the record of the data folder's `make up`, as far as they are on this machine."""
    try:
        addresses = json.loads((_run_dir(environ) / "up.json").read_text())["gateways"]
        return [address for address in addresses if isinstance(address, str) and is_loopback(address)]
    except (OSError, ValueError, KeyError, TypeError):  # nothing runs there, or the folder is another user's
        return []
