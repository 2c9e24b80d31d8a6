"""How a worker process ends: by a signal, or because one of its parts breaks."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

import httpx
import pytest
from redis.asyncio import Redis

from tests.support.paths import CHECKOUT
from tests.support.polling import until
from tests.support.valkey import QUICK, Valkey

pytestmark = pytest.mark.slow

MODULE = "tests.support.ending_worker"


class RunningWorker:
    """The process of a worker."""

    def __init__(self, process: asyncio.subprocess.Process, *, output: Path, socket: Path) -> None:
        self.process = process
        self._output = output
        self._socket = socket

    @property
    def output(self) -> str:
        return self._output.read_text()

    async def until_logged(self, text: str) -> None:
        await until(lambda: text in self.output, f"{text} in {self._output}")

    async def status(self, path: str) -> int:
        """Return the status of an answer, or 0 if the worker takes no requests any more."""
        transport = httpx.AsyncHTTPTransport(uds=str(self._socket))
        async with httpx.AsyncClient(transport=transport, base_url="http://worker", timeout=20) as client:
            with contextlib.suppress(httpx.NetworkError, httpx.RemoteProtocolError):
                return (await client.get(path)).status_code
        return 0

    async def exit_status(self) -> int:
        async with asyncio.timeout(60):
            return await self.process.wait()


class StartWorker(Protocol):
    def __call__(self, *arguments: str) -> AbstractAsyncContextManager[RunningWorker]: ...


@pytest.fixture
def started(valkey: Valkey, redis: Redis, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> StartWorker:
    """Worker processes on a Redis that is empty at first."""
    socket = tmp_path_factory.mktemp("s") / "worker"
    own = {
        "redis_url": valkey.url,
        "data_dir": tmp_path,
        "service_token": "a token of the tests'",
        "executor": "process",
    }
    settings = own | QUICK | {"lease_seconds": 60, "redis_timeout_seconds": 1.0, "listen_socket": socket}
    environ = {name: value for name, value in os.environ.items() if not name.startswith("BINDERY_")}
    environ |= {f"BINDERY_{name.upper()}": str(value) for name, value in settings.items()}

    @contextlib.asynccontextmanager
    async def start(*arguments: str) -> AsyncIterator[RunningWorker]:
        output = tmp_path / "output"
        with output.open("wb") as file:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", *arguments, cwd=CHECKOUT, env=environ, stdout=file, stderr=file
            )
        try:
            yield RunningWorker(process, output=output, socket=socket)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    return start


async def test_a_worker_whose_part_breaks_hands_over_says_so_and_ends_with_an_error(
    started: StartWorker, redis: Redis
) -> None:
    async with started(MODULE, "raises") as worker:
        assert await worker.exit_status() == 1
        assert worker.output.count("part_ended") == 1
        assert "a bug" in worker.output
    assert not await redis.keys("*alive*")
    assert not await redis.keys("*slots*")


async def test_a_worker_that_hangs_in_its_end_is_killed_and_neither_alive_nor_healthy_until_then(
    started: StartWorker,
) -> None:
    async with started(MODULE, "hangs") as worker:
        await worker.until_logged("part_ended")
        assert await worker.status("/livez") != 200
        assert await worker.status("/health") != 200
        assert await worker.status("/readyz") != 200
        assert await worker.exit_status() == 1


async def test_a_worker_whose_part_breaks_has_as_much_time_to_hand_over_as_after_a_signal(
    started: StartWorker, redis: Redis
) -> None:
    async with started(MODULE, "hands_over") as worker:
        assert await worker.exit_status() == 1
        assert worker.output.count("part_ended") == 1
    assert not await redis.keys("*alive*")


async def test_a_worker_that_hands_over_takes_no_requests(started: StartWorker) -> None:
    async with started(MODULE, "lingers") as worker:
        await until(lambda: _is_ready(worker))
        worker.process.terminate()
        await worker.until_logged("handing_over")
        assert await worker.status("/readyz") == 0


async def test_a_worker_that_is_asked_to_end_ends_well(started: StartWorker, redis: Redis) -> None:
    async with started("services.builder.worker") as worker:
        await until(lambda: redis.keys("*slots*"))
        worker.process.terminate()
        assert await worker.exit_status() == 0
    assert not await redis.keys("*alive*")
    assert not await redis.keys("*slots*")


async def _is_ready(worker: RunningWorker) -> bool:
    return await worker.status("/readyz") == 200
