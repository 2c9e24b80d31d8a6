"""The queue's metrics, by which workers are scaled: every process of the API tells them as they are."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from services.builder.app import create_app
from services.builder.settings import BuilderSettings
from tests.support.in_process_builder import Builder, open_builder
from tests.support.settings import settings_for
from tests.support.valkey import QUICK, Valkey

WAITING = "bindery_builds_waiting"
RUNNING = "bindery_builds_running"
OLDEST = "bindery_builds_oldest_waiting_seconds"


def an_api(valkey: Valkey, folder: Path, **settings: object) -> FastAPI:
    values: dict[str, Any] = {"redis_url": valkey.url, "data_dir": folder, "service_token": "a" * 32}
    return create_app(settings_for(BuilderSettings, values | QUICK | settings))


async def scraped(app: FastAPI) -> dict[str, float]:
    """All metrics without labels, as Prometheus reads them."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://builder") as client:
        reply = await client.get("/metrics")
    assert reply.status_code == 200
    samples = [sample for family in text_string_to_metric_families(reply.text) for sample in family.samples]
    names = [sample.name for sample in samples if not sample.labels]
    assert len(names) == len(set(names)), names
    return {sample.name: sample.value for sample in samples if not sample.labels}


@pytest.fixture
async def apis(valkey: Valkey, redis: Redis, tmp_path: Path) -> AsyncIterator[list[FastAPI]]:
    """Two processes of the API, of which one sweeps."""
    async with contextlib.AsyncExitStack() as stack:
        apps = [an_api(valkey, tmp_path) for _ in range(2)]
        for app in apps:
            await stack.enter_async_context(app.router.lifespan_context(app))
        yield apps


@pytest.fixture
async def builder(valkey: Valkey, apis: list[FastAPI], tmp_path: Path) -> AsyncIterator[Builder]:
    async with open_builder(valkey, tmp_path) as builder:
        yield builder


async def test_each_api_tells_at_once_how_many_builds_wait_and_run_whether_or_not_there_is_a_worker(
    apis: list[FastAPI], builder: Builder
) -> None:
    async def each() -> list[tuple[float, float]]:
        return [(told[WAITING], told[RUNNING]) for told in [await scraped(app) for app in apis]]

    assert await each() == [(0, 0)] * 2
    builds = [await builder.request_build(f"repo-{number}") for number in range(3)]
    assert await each() == [(3, 0)] * 2
    await builder.offer_slots("worker", 2)
    await builder.admit()
    assert await each() == [(1, 2)] * 2
    await builder.context.redis.delete(builder.context.keys.alive("worker"))  # it dies, and its builds go on
    await builder.end(builds[0])
    assert await each() == [(1, 1)] * 2
    for app in apis:
        assert (await scraped(app))[OLDEST] > 0


async def test_an_api_that_can_not_reach_redis_tells_no_number_rather_than_an_old_one(
    own_valkey: Valkey, tmp_path: Path
) -> None:
    app = an_api(own_valkey, tmp_path, metrics_read_seconds=0.2)
    assert not {WAITING, RUNNING, OLDEST} & set(await scraped(app))  # it has not started
    async with app.router.lifespan_context(app):
        assert {WAITING, RUNNING, OLDEST} <= set(await scraped(app))
        own_valkey.kill()
        told = await scraped(app)
        assert "bindery_tasks" in told
        assert not {WAITING, RUNNING, OLDEST} & set(told)
