"""A resolve whose answer is known, beside a bare route that reads one key of Redis, in turns: CPU per request."""

import asyncio
import os
import statistics
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import redis.asyncio as redis

from tests.load.processes import cpu_seconds
from tests.load.stack import LoadStack
from tests.load.stub_forge import sha_of
from tests.load.table import Row
from tests.support.paths import CHECKOUT

REQUESTS = 1000
AT_ONCE = 8
_LINK = "load/known"


async def measure(stack: LoadStack, turns: int) -> list[Row]:
    """Resolve one commit again and again, and read one key as often by the bare route."""
    environment = stack.parts["resolver"].environment
    headers = {"Authorization": f"Bearer {environment['BINDERY_SERVICE_TOKEN']}"}
    body = {"provider": "gh", "spec": f"{_LINK}/{sha_of(_LINK)}"}
    sides: dict[str, list[float]] = {"resolver": [], "bare": []}
    async with _client(environment["BINDERY_LISTEN_SOCKET"], headers) as resolver:
        answer = await _ask(resolver, body)
        async with _bare_route(stack, answer) as (pid, bare):
            pids = {"resolver": stack.processes["resolver"].pid, "bare": pid}
            for turn in range(turns + 1):
                for name, client in (("resolver", resolver), ("bare", bare)):
                    ms = await _cpu_ms(client, body, pids[name])
                    if turn:  # the first imports and connects
                        sides[name].append(ms)

    p50 = {name: statistics.median(values) for name, values in sides.items()}
    ratio = p50["resolver"] / p50["bare"]
    return [
        Row(f"A resolve whose answer is known, {AT_ONCE} at once", ""),
        Row("CPU of a bare route that reads one key", f"{p50['bare']:.2f} ms", numbers={"bare_ms": p50["bare"]}),
        Row("CPU of the resolver", f"{p50['resolver']:.2f} ms", numbers={"resolver_ms": p50["resolver"]}),
        Row("the resolver beside the bare route", f"{ratio:.2f}", goal="<= 2", numbers={"ratio": ratio}),
    ]


@asynccontextmanager
async def _client(socket: str, headers: dict[str, str] | None = None) -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE)
    transport = httpx.AsyncHTTPTransport(uds=socket, limits=limits)
    async with httpx.AsyncClient(transport=transport, base_url="http://x", headers=headers, timeout=60) as client:
        yield client


async def _ask(client: httpx.AsyncClient, body: dict[str, str]) -> bytes:
    reply = await client.post("/resolve", json=body)
    reply.raise_for_status()
    return reply.content


async def _cpu_ms(client: httpx.AsyncClient, body: dict[str, str], pid: int) -> float:
    """Return the CPU time of a process for one request, on average."""
    before = cpu_seconds(pid)

    async def ask_in_turn() -> None:
        for _ in range(REQUESTS // AT_ONCE):
            await _ask(client, body)

    await asyncio.gather(*(ask_in_turn() for _ in range(AT_ONCE)))
    return (cpu_seconds(pid) - before) / REQUESTS * 1000


@asynccontextmanager
async def _bare_route(stack: LoadStack, answer: bytes) -> AsyncIterator[tuple[int, httpx.AsyncClient]]:
    """Run the bare route on the stack's Redis; yield its process and a client."""
    socket = stack.folder / "bare.sock"
    key = "load:bare"
    async with redis.Redis.from_url(stack.redis_url) as client:
        await client.set(key, answer)
    process = await asyncio.to_thread(_start, socket, key, stack.redis_url)
    try:
        await _until_there(socket, process)
        async with _client(str(socket)) as bare:
            if await _ask(bare, {"provider": "gh", "spec": "x"}) != answer:
                raise RuntimeError("the bare route does not answer what the resolver does")
            yield process.pid, bare
    finally:
        process.terminate()
        process.wait(10)


def _start(socket: Path, key: str, url: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "tests.load.bare_route", str(socket), key]
    return subprocess.Popen(command, cwd=CHECKOUT, env={**os.environ, "BARE_REDIS_URL": url}, start_new_session=True)


async def _until_there(socket: Path, process: "subprocess.Popen[bytes]") -> None:
    while not socket.exists():
        if process.poll() is not None:
            raise RuntimeError("the bare route did not start")
        await asyncio.sleep(0.02)
