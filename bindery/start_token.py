"""A Bindery on this machine, for its clients: its address and its start token, as its data folder has them."""

import json
import os
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

_DATA_FOLDER = Path(__file__).resolve().parent.parent / ".bindery"


def is_loopback(url: str) -> bool:
    """Whether `url` names this machine."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def start_token(gateway: str, environ: Mapping[str, str] = os.environ) -> str:
    """The token to show at `gateway`, an address without a slash at its end; empty where none is known.

    `BINDERY_START_TOKEN` is for any gateway on this machine, that of the data folder only for the very addresses of the
    `make up` that runs there: at another name or port may be somebody else.
    """
    if not is_loopback(gateway):
        return ""
    if named := environ.get("BINDERY_START_TOKEN"):
        return named
    try:
        return (_run(environ) / "start-token").read_text().strip() if gateway in _gateways(environ) else ""
    except (OSError, ValueError):  # it was started without one
        return ""


def running_gateway(environ: Mapping[str, str] = os.environ) -> str:
    """The address of the `make up` that runs in the data folder, its first where it has several; empty where none."""
    return next(iter(_gateways(environ)), "")


def _run(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("BINDERY_DATA_DIR") or _DATA_FOLDER).expanduser() / "run"


def _gateways(environ: Mapping[str, str]) -> list[str]:
    """The addresses of the `make up` that runs in the data folder: on this machine, whatever else stands there."""
    try:
        found = json.loads((_run(environ) / "up.json").read_text())["gateways"]
        return [one for one in found if isinstance(one, str) and is_loopback(one)]
    except (OSError, ValueError, KeyError, TypeError):  # nothing runs there, or it is somebody else's
        return []
