"""Credentials of launches that wait for a build: it knows them all, and removes them when it has ended."""

from pathlib import Path

from redis.asyncio import Redis

from services.builder.queue.attempts import build_topic
from services.common.models import Build
from services.common.net.credential import ScopedCredential
from tests.support.in_process_builder import Builder, image_of, open_builder, request_for
from tests.support.valkey import Valkey

LOGIN = ScopedCredential(scope="https://example.org/repo", username="ann", password="s3cret-word")


async def known(builder: Builder, build: Build) -> list[str]:
    key = builder.context.keys.record(build_topic(build.build_id or ""))
    return ((await builder.context.redis.hget(key, "credentials")) or b"").decode().split()


async def test_a_build_knows_those_of_all_its_launches(redis: Redis, valkey: Valkey, tmp_path: Path) -> None:
    async with open_builder(valkey, tmp_path) as builder:
        first, second, third = [request_for("repo", "a", name).updated(credential_id=f"id-{name}") for name in "xyz"]
        build = await builder.attempts.start(image_of("repo", "a"), first)
        await builder.attempts.start(image_of("repo", "a"), second)
        await builder.attempts.join(build.build_id or "", third)
        await builder.attempts.join(build.build_id or "", second)
        await builder.attempts.join(build.build_id or "", request_for("repo", "a", "without"))
        assert await known(builder, build) == ["id-x", "id-y", "id-z"]


async def test_they_are_removed_with_the_builds_end(redis: Redis, valkey: Valkey, tmp_path: Path) -> None:
    async with open_builder(valkey, tmp_path, credentials_key="k" * 32) as builder:
        ids = [await builder.context.git_credentials.store(LOGIN) for _ in range(3)]
        build = await builder.attempts.start(
            image_of("repo", "a"), request_for("repo", "a", "one").updated(credential_id=ids[0])
        )
        await builder.attempts.join(build.build_id or "", request_for("repo", "a", "two").updated(credential_id=ids[1]))
        await builder.end(build)
        await builder.sweep()
        assert await builder.context.git_credentials.read_first(ids[:2]) is None
        assert await builder.context.git_credentials.read_first(ids) == LOGIN


async def test_a_build_without_any_ends_as_before(redis: Redis, valkey: Valkey, tmp_path: Path) -> None:
    async with open_builder(valkey, tmp_path) as builder:
        build = await builder.request_build("repo")
        assert await known(builder, build) == []
        await builder.end(build)
        await builder.sweep()
