"""The metrics of the seats: every launcher tells them as they are, whichever of them reaps."""

import contextlib
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from services.launcher.app import create_app
from services.launcher.settings import LauncherSettings
from tests.support.in_process_launcher import running_hub
from tests.support.polling import until
from tests.support.settings import settings_for
from tests.support.valkey import QUICK, Valkey

TAKEN = "bindery_seats_taken"
WAITING = "bindery_seats_waiting"


def a_launcher(valkey: Valkey, folder: Path, hub_url: str, **settings: object) -> FastAPI:
    values: dict[str, Any] = {
        "redis_url": valkey.url,
        "data_dir": folder,
        "service_token": "a" * 32,
        "installation_secret": "b" * 32,
        "hub_api_token": "c" * 32,
        "hub_api_url": hub_url,
        "hub_url": hub_url,
    }
    return create_app(settings_for(LauncherSettings, values | QUICK | settings))


async def scraped(app: FastAPI) -> dict[str, float]:
    """All metrics without labels, as Prometheus reads them."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://launcher") as client:
        reply = await client.get("/metrics")
    assert reply.status_code == 200
    samples = [sample for family in text_string_to_metric_families(reply.text) for sample in family.samples]
    return {sample.name: sample.value for sample in samples if not sample.labels}


async def test_each_launcher_tells_at_once_how_many_seats_are_taken_and_who_waits(
    valkey: Valkey, redis: Redis, tmp_path: Path
) -> None:
    async with running_hub() as hub, contextlib.AsyncExitStack() as stack:
        url = f"http://127.0.0.1:{hub.port}/hub/api/"
        apps = [a_launcher(valkey, tmp_path, url, reap_interval_seconds=3600) for _ in range(2)]
        for app in apps:
            assert not {TAKEN, WAITING} & set(await scraped(app))  # it has not started
            await stack.enter_async_context(app.router.lifespan_context(app))
        assert [(told[TAKEN], told[WAITING]) for told in [await scraped(app) for app in apps]] == [(0, 0)] * 2

        keys = apps[0].state.context.seats

        async def is_counted() -> bool:
            return bool(await redis.get(keys._counted_key) == b"yes")

        await until(is_counted, "the count at the start is over: it lets go whoever is no launch")
        await redis.hset(keys._held_key, "total", "7")
        await redis.zadd(keys._waiting_key, {"one": 1, "two": 2})
        assert [(told[TAKEN], told[WAITING]) for told in [await scraped(app) for app in apps]] == [(7, 2)] * 2


async def test_a_launcher_that_can_not_read_them_tells_no_number_rather_than_an_old_one(
    own_valkey: Valkey, tmp_path: Path
) -> None:
    async with running_hub() as hub:
        app = a_launcher(
            own_valkey, tmp_path, f"http://127.0.0.1:{hub.port}/hub/api/", metrics_read_seconds=0.2,
            reap_interval_seconds=3600,
        )  # fmt: skip
        async with app.router.lifespan_context(app):
            assert {TAKEN, WAITING} <= set(await scraped(app))
            seats = app.state.context.seats
            await seats._context.redis.hset(seats._held_key, "total", "many")
            assert not {TAKEN, WAITING} & set(await scraped(app))
            own_valkey.kill()
            told = await scraped(app)
            assert "bindery_tasks" in told
            assert not {TAKEN, WAITING} & set(told)
