"""Health checks of the components."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx

from deploy.redis.users import redis_user_name

HealthCheck = Callable[[], Coroutine[Any, Any, str | None]]
"""Returns None if the component is healthy, else the problem in a few words. Never raises, but may be slow."""


async def always_healthy() -> str | None:
    """Return None: for a component that answers no requests, it is enough that it runs."""
    return None


def http_health(client: httpx.AsyncClient, *urls: str, token: str = "") -> HealthCheck:
    """Return a check that each address answers 2xx; the first that does not is named, with its failing checks.

    A service that is shown the services' `token` answers in detail.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else {}

    async def check() -> str | None:
        for url in urls:
            try:
                response = await client.get(url, headers=headers)
            except httpx.HTTPError as error:
                return f"{url} does not answer ({type(error).__name__})"
            if not response.is_success:
                return f"{url} answers {response.status_code}{_failing_checks(response)}"

        return None

    return check


def socket_health(socket: Path, timeout_seconds: float, token: str) -> HealthCheck:
    """Return the same check for `/health` of a component that listens at a Unix socket."""
    url = f"http://{socket.stem}/health"

    async def check() -> str | None:
        transport = httpx.AsyncHTTPTransport(uds=str(socket), verify=False)  # no TLS there
        async with httpx.AsyncClient(transport=transport, trust_env=False, timeout=timeout_seconds) as client:
            problem = await http_health(client, url, token=token)()
        return problem and problem.replace(url, str(socket))

    return check


def redis_health(socket: Path, password: str, timeout_seconds: float) -> HealthCheck:
    """Return a check that Redis answers PING to the user for that; it does not while it still loads its data."""

    async def check() -> str | None:
        try:
            async with asyncio.timeout(timeout_seconds):
                reader, writer = await asyncio.open_unix_connection(socket)
                try:
                    writer.write(f"AUTH {redis_user_name('health')} {password}\r\nPING\r\n".encode())
                    replies = [await reader.readline(), await reader.readline()]
                finally:
                    writer.close()
        except (OSError, TimeoutError) as error:
            return f"redis does not answer ({type(error).__name__})"

        if replies == [b"+OK\r\n", b"+PONG\r\n"]:
            return None
        return f"redis answers {replies[-1].decode().strip()!r}"

    return check


def _failing_checks(response: httpx.Response) -> str:
    try:
        failing = [check for check in response.json()["checks"] if not check["ok"]]
        return ": " + ", ".join(f"{check['service']} ({check.get('message', 'not well')})" for check in failing)
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError):
        return ""
