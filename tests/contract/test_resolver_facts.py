"""What the resolver leaves in a real Redis for the next launch: what can't change, and nothing else."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from deploy.local.redis import redis_url
from services.common.models import ResolvedRepo
from services.resolver.policy import rules
from tests.support.forge import Forge
from tests.support.in_process_resolver import running_resolver
from tests.support.valkey import PASSWORD, running_valkey


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    with running_valkey(tmp_path) as valkey, Redis.from_url(valkey.url) as client:
        yield client


def url_of(client: Redis) -> str:
    options = client.connection_pool.connection_kwargs
    return redis_url(Path(options["path"]), "resolver", PASSWORD)


async def test_only_what_a_full_sha_means_is_kept(forge: Forge, redis: Redis) -> None:
    sha = forge.create_repo("org", "repo", {"a": "1"})
    async with running_resolver(forge, redis_url=url_of(redis), banned_specs={"gh": ["bad/"]}) as resolver:
        await resolver.repo("gh", "org/repo/HEAD")
        await resolver.repo("gh", "org/repo/main")
        await resolver.problem("gh", f"bad/repo/{sha}")
        await resolver.problem("gh", f"org/repo/{'0' * 40}")
        assert redis.keys("*fact*") == []
        repo = await resolver.repo("gh", f"org/repo/{sha}")
    (key,) = redis.keys("*fact*")
    (policy,) = redis.keys("*policy*")
    judged_by, _, fact = redis.get(key).partition(b" ")
    assert judged_by == redis.get(policy)
    assert ResolvedRepo.model_validate_json(fact) == repo
    assert 0 < redis.pttl(key) <= 86_400_000


async def test_other_bans_end_what_was_known_before_them(forge: Forge, redis: Redis) -> None:
    sha = forge.create_repo("org", "repo", {"a": "1"})
    async with running_resolver(forge, redis_url=url_of(redis)) as resolver:
        await resolver.repo("gh", f"org/repo/{sha}")
    (policy,) = redis.keys("*policy*")
    before = redis.get(policy)
    async with running_resolver(forge, redis_url=url_of(redis), banned_specs={"gh": ["org/"]}) as resolver:
        assert redis.get(policy) != before
        assert (await resolver.problem("gh", f"org/repo/{sha}")).code == "banned"


async def test_other_networks_and_rules_end_it_too(forge: Forge, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    policies = set()
    for settings in ({}, {"refused_networks": "140.82.0.0/16"}, {"allowed_networks": "10.0.0.0/8"}):
        async with running_resolver(forge, redis_url=url_of(redis), **settings):
            policies.add(redis.get(redis.keys("*policy*")[0]))
    monkeypatch.setattr(rules, "RULES_VERSION", rules.RULES_VERSION + 1)
    async with running_resolver(forge, redis_url=url_of(redis)):
        policies.add(redis.get(redis.keys("*policy*")[0]))
    assert len(policies) == 4


async def test_a_redis_that_hangs_costs_a_second_and_nothing_else(forge: Forge, redis: Redis) -> None:
    sha = forge.create_repo("org", "repo", {"a": "1"})
    async with running_resolver(forge, redis_url=url_of(redis)) as resolver:
        redis.client_pause(60_000)
        assert (await resolver.repo("gh", f"org/repo/{sha}")).ref == sha
