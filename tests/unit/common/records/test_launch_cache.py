"""The launch cache in a real Redis: which answers are cached, and when they no longer count."""

import time

import pytest
from redis.asyncio import Redis

from services.common.models import ResolvedRepo, Spec, Visibility
from services.common.records.launch_cache import CachedAnswers, CachedImage, LaunchCache
from services.common.redis.keys import Keys

SHA = "0123456789abcdef0123456789abcdef01234567"
REPO = ResolvedRepo(
    provider="gh", spec=f"org/repo/{SHA}", repo_url="https://github.com/org/repo", ref=SHA,
    resolved_spec=f"org/repo/{SHA}", ref_url=f"https://github.com/org/repo/tree/{SHA}", slug="org-repo",
    display_name="org/repo", immutable_spec=True,
)  # fmt: skip
LINK = Spec(provider=REPO.provider, spec=REPO.spec)
STORE_ID = "registry.test/prefix"


def image(asked_at: float | None = None) -> CachedImage:
    return CachedImage(image="registry.test/prefix/org-repo", asked_at=time.time() if asked_at is None else asked_at)


@pytest.fixture
async def launch_cache(redis: Redis) -> LaunchCache:
    """A cache whose policies are known: `rules` of the resolver, and the id of the image store."""
    launch_cache = LaunchCache(redis, Keys("bindery:test"), tombstone_seconds=60.0)
    await launch_cache.set_policy("rules")
    await launch_cache.set_image_store_id(STORE_ID)
    return launch_cache


async def looked_up(launch_cache: LaunchCache, link: Spec = LINK) -> CachedAnswers:
    return launch_cache.parse_lookup(await launch_cache.lookup_call(link).run())


async def test_one_lookup_answers_with_the_repository_and_its_image(launch_cache: LaunchCache) -> None:
    stored_image = image()
    await launch_cache.store_repo(REPO, "rules")
    await launch_cache.store_image(REPO, stored_image, STORE_ID)
    assert await looked_up(launch_cache) == CachedAnswers(REPO, stored_image)
    assert await launch_cache.find_image(REPO) == stored_image
    assert await looked_up(launch_cache, Spec(provider="gh", spec="org/repo/main")) == CachedAnswers(None, None)


@pytest.mark.parametrize(
    "change", [{"visibility": Visibility.PRIVATE}, {"visibility": Visibility.UNKNOWN}, {"immutable_spec": False}]
)
async def test_a_link_that_may_change_or_is_not_public_is_not_cached(
    launch_cache: LaunchCache, change: dict[str, object]
) -> None:
    await launch_cache.store_repo(REPO.updated(**change), "rules")
    assert await looked_up(launch_cache) == CachedAnswers(None, None)


async def test_the_image_of_a_private_repository_is_not_cached(launch_cache: LaunchCache) -> None:
    private = REPO.updated(visibility=Visibility.PRIVATE)
    await launch_cache.store_image(private, image(), STORE_ID)
    assert await launch_cache.find_image(private) is None


async def test_an_image_of_a_link_that_may_change_is_cached_by_its_input_only(launch_cache: LaunchCache) -> None:
    moving = REPO.updated(immutable_spec=False)
    await launch_cache.store_image(moving, image(), STORE_ID)
    await launch_cache.store_repo(REPO, "rules")
    assert await launch_cache.find_image(moving) is not None
    assert (await looked_up(launch_cache)).image is None


async def test_an_answer_counts_only_under_its_policy(launch_cache: LaunchCache) -> None:
    await launch_cache.store_repo(REPO, "rules")
    await launch_cache.store_image(REPO, image(), STORE_ID)

    await launch_cache.set_image_store_id("registry.test/elsewhere")
    assert await launch_cache.find_image(REPO) is None
    assert await looked_up(launch_cache) == CachedAnswers(REPO, None)

    await launch_cache.set_policy("other rules")
    assert await looked_up(launch_cache) == CachedAnswers(None, None)


async def test_a_withdrawn_image_is_not_brought_back_by_a_writer_that_asked_before(launch_cache: LaunchCache) -> None:
    asked_before = image()
    await launch_cache.store_repo(REPO, "rules")
    await launch_cache.store_image(REPO, asked_before, STORE_ID)
    await launch_cache.withdraw_image(REPO)
    assert await launch_cache.find_image(REPO) is None

    await launch_cache.store_image(REPO, asked_before, STORE_ID)
    assert await launch_cache.find_image(REPO) is None
    assert await looked_up(launch_cache) == CachedAnswers(REPO, None)


async def test_a_writer_that_asked_longer_ago_than_a_tombstone_lasts_is_too_late(launch_cache: LaunchCache) -> None:
    await launch_cache.store_image(REPO, image(asked_at=time.time() - 61), STORE_ID)
    assert await launch_cache.find_image(REPO) is None
    await launch_cache.store_image(REPO, image(asked_at=time.time() - 30), STORE_ID)
    assert await launch_cache.find_image(REPO) is not None
