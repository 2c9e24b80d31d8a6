"""The log of a build while it moves from its stream to the log store."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from services.builder.queue import builds
from services.builder.queue.attempts import build_topic
from services.builder.queue.log_excerpt import LogExcerpt
from services.common.models import BuildState
from services.common.models.errors import BinderyError
from services.common.redis.keys import Keys, Topic
from services.common.streams.entries import Entry
from services.common.streams.log_store import stream_entries
from tests.support.in_process_builder import Builder, open_builder
from tests.support.valkey import Valkey


@pytest.fixture
async def builder(valkey: Valkey, redis: Redis, tmp_path: Path) -> AsyncIterator[Builder]:
    async with open_builder(valkey, tmp_path) as builder:
        yield builder


async def test_a_log_whose_stream_expires_as_it_is_read_comes_from_the_store(
    builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = await builder.request_build("repo")
    build_id = build.build_id or ""
    assert await builder.attempts.end_queued(build, BuildState.CANCELLED, BinderyError("cancelled", "Why."))
    await builder.cleanup.store_logs()
    before = await builder.builds.log(build_id, LogExcerpt())
    assert before

    async def expire_and_read(redis: Redis, keys: Keys, topic: Topic, after: str) -> list[Entry]:
        await redis.delete(keys.events(build_topic(build_id)))
        return await stream_entries(redis, keys, topic, after)

    monkeypatch.setattr(builds, "stream_entries", expire_and_read)
    assert await builder.builds.log(build_id, LogExcerpt()) == before
