"""Asking a part whether it is well."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx

from deploy.redis.users import user_name

Health = Callable[[], Coroutine[Any, Any, str | None]]
"""Answers None when the part is well, else what is wrong, in a few words. Never raises, but may be slow."""


async def always_well() -> str | None:
    """For a part that answers nobody: running is all that can be seen."""
    return None


def http_health(client: httpx.AsyncClient, *urls: str, token: str = "") -> Health:
    """Well when every address answers 2xx; else the first that doesn't, with the checks that it names.

    To who has the services' `token` a service says what is wrong in detail.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else {}

    async def ask() -> str | None:
        for url in urls:
            try:
                answer = await client.get(url, headers=headers)
            except httpx.HTTPError as error:
                return f"{url} does not answer ({type(error).__name__})"
            if not answer.is_success:
                return f"{url} answers {answer.status_code}{_failing_checks(answer)}"
        return None

    return ask


def socket_health(socket: Path, timeout_seconds: float, token: str) -> Health:
    """The same for a part that listens at a Unix socket: its `/health`."""

    async def ask() -> str | None:
        transport = httpx.AsyncHTTPTransport(uds=str(socket), verify=False)  # no TLS there
        async with httpx.AsyncClient(transport=transport, trust_env=False, timeout=timeout_seconds) as client:
            trouble = await http_health(client, f"http://{socket.stem}/health", token=token)()
        return trouble and trouble.replace(f"http://{socket.stem}/health", str(socket))

    return ask


def redis_health(socket: Path, password: str, timeout_seconds: float) -> Health:
    """Well when Redis answers PING to the user who may ask that; while it still loads its data it doesn't."""

    async def ask() -> str | None:
        try:
            async with asyncio.timeout(timeout_seconds):
                reader, writer = await asyncio.open_unix_connection(socket)
                try:
                    writer.write(f"AUTH {user_name('health')} {password}\r\nPING\r\n".encode())
                    answers = [await reader.readline(), await reader.readline()]
                finally:
                    writer.close()
        except (OSError, TimeoutError) as error:
            return f"redis does not answer ({type(error).__name__})"
        return None if answers == [b"+OK\r\n", b"+PONG\r\n"] else f"redis answers {answers[-1].decode().strip()!r}"

    return ask


def _failing_checks(answer: httpx.Response) -> str:
    try:
        failing = [check for check in answer.json()["checks"] if not check["ok"]]
        return ": " + ", ".join(f"{check['service']} ({check.get('message', 'not well')})" for check in failing)
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError):
        return ""
