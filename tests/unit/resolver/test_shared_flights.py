"""A shared request upstream, when Redis refuses to help."""

import pytest
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from services.common.models import ResolvedRepo
from services.common.redis.client import connect
from services.common.redis.keys import Keys
from services.resolver.shared_flights import SharedFlights
from tests.support.valkey import Valkey, service_settings

REPO = ResolvedRepo(
    provider="git", spec="x", repo_url="https://example.org/o/r", ref="0" * 40, resolved_spec="x", ref_url="",
    slug="x", display_name="x",
)  # fmt: skip


@pytest.mark.parametrize("refusal", ["for now", "no right"])
async def test_an_answer_is_stored_although_a_right_is_missing_but_not_while_redis_refuses(
    own_valkey: Valkey, refusal: str
) -> None:
    async with Redis.from_url(own_valkey.url) as admin:
        user = "admin"
        if refusal == "for now":
            await admin.config_set("min-replicas-to-write", 1)
        else:
            user = "gateway"  # which has no right to `flight:*`
        stored: list[ResolvedRepo] = []

        async def work() -> ResolvedRepo:
            return REPO

        def store(_pipe: Pipeline, repo: ResolvedRepo) -> None:
            stored.append(repo)

        async with connect(service_settings(own_valkey, redis_url=own_valkey.url_of(user))) as redis:
            flights = SharedFlights(redis, Keys("bindery:default"), wait_seconds=1.0)
            assert await flights.run("link", work, store) == REPO
        assert len(stored) == (0 if refusal == "for now" else 1)
