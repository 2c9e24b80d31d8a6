"""`python -m services.common.probe`: whether the service in this container works, and otherwise why, in one sentence.

For a container's HEALTHCHECK: it exits with 0 or 1, and what it prints is in `docker inspect`. It needs Python's own
library alone, so that a probe every few seconds costs little.
"""

import argparse
import http.client
import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

ANY_ADDRESS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing is bound here
"""Addresses that listen on all interfaces, and where such a service is reached from its own container."""


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def main(arguments: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> int:
    """Print what is wrong with the service and return 1, or return 0."""
    parser = argparse.ArgumentParser(prog="python -m services.common.probe", description=__doc__)
    parser.add_argument("url", nargs="?", default="", help="what to ask; default: /health of the service's own address")
    parser.add_argument("--timeout", type=float, default=4.0, help="seconds that the answer may take (4)")
    options = parser.parse_args(arguments)

    try:
        problem = _ask(options.url, options.timeout, environment)
    except (OSError, http.client.HTTPException) as error:
        problem = f"The service does not answer ({type(error).__name__}): its log says why."
    except ValueError as error:
        problem = f"The address to ask makes no sense ({error}): correct BINDERY_LISTEN_PORT, or the URL."
    if problem:
        sys.stdout.write(f"{problem}\n")
    return 1 if problem else 0


def _ask(url: str, timeout: float, environment: Mapping[str, str]) -> str:
    """Return what an answer says is wrong; nothing if it is 2xx.

    Raise `OSError` or `HTTPException` without an answer, and `ValueError` for an address that makes no sense.
    """
    parts = urlsplit(url)
    token = "" if parts.hostname else environment.get("BINDERY_SERVICE_TOKEN", "")  # for this service alone
    connection: http.client.HTTPConnection
    if parts.hostname:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)
    elif path := environment.get("BINDERY_LISTEN_SOCKET"):
        connection = _UnixConnection(path, timeout)
    else:
        host = environment.get("BINDERY_LISTEN_HOST", "")
        port = int(environment.get("BINDERY_LISTEN_PORT", "0"))
        connection = http.client.HTTPConnection(ANY_ADDRESS.get(host, host), port, timeout=timeout)

    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        connection.request("GET", parts.path or "/health", headers=headers)
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    return "" if response.status in range(200, 300) else _problem_in(body) or f"It answers {response.status}."


def _problem_in(body: bytes) -> str:
    """Return the sentences of `/health`, or of `/livez` and `/readyz`; nothing for another body."""
    try:
        report = json.loads(body)
        if "checks" not in report:
            return str(report.get("message") or "")
        failing = [check for check in report["checks"] if not check["ok"]]
        return " ".join(f"{check['service']}: {check.get('message', 'not well')}" for check in failing)
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""


if __name__ == "__main__":
    sys.exit(main())
