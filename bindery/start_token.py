"""The start token of a Bindery on this machine, for its clients: from the environment, or from its data folder."""

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
    run = Path(environ.get("BINDERY_DATA_DIR") or _DATA_FOLDER).expanduser() / "run"
    try:
        is_its_own = gateway in json.loads((run / "up.json").read_text())["gateways"]
        return (run / "start-token").read_text().strip() if is_its_own else ""
    except (OSError, ValueError, KeyError, TypeError):  # nothing runs there, or it is somebody else's
        return ""
