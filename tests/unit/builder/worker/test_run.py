"""How a worker process ends: by a signal, or because one of its parts breaks."""

import asyncio
import io
import signal
from pathlib import Path

import pytest
from redis.asyncio import Redis

from services.builder.settings import BuilderSettings
from services.builder.worker.run import run
from services.builder.worker.worker import BuilderWorker
from tests.support.polling import until
from tests.support.settings import settings_for
from tests.support.valkey import QUICK, Valkey


def builder_settings(valkey: Valkey, folder: Path) -> BuilderSettings:
    own = {"redis_url": valkey.url, "data_dir": folder, "service_token": "a token of the tests'"}
    return settings_for(BuilderSettings, own | QUICK | {"lease_seconds": 60})


async def test_a_worker_whose_part_breaks_hands_over_says_so_and_ends_with_an_error(
    redis: Redis, valkey: Valkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logs: io.StringIO
) -> None:
    async def broken(_: BuilderWorker) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(BuilderWorker, "run_arq", broken)
    async with asyncio.timeout(60):
        assert await run(builder_settings(valkey, tmp_path)) == 1
    output = logs.getvalue()
    assert "part_ended" in output
    assert "a bug" in output
    assert not await redis.keys("*alive*")
    assert not await redis.keys("*slots*")


async def test_a_worker_that_is_asked_to_end_ends_well(redis: Redis, valkey: Valkey, tmp_path: Path) -> None:
    ends = asyncio.create_task(run(builder_settings(valkey, tmp_path)))
    await until(lambda: redis.keys("*slots*"))
    signal.raise_signal(signal.SIGTERM)
    async with asyncio.timeout(60):
        assert await ends == 0
