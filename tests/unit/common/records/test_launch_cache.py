"""The launch cache in a real Redis: which answers are cached, and when they no longer count."""

import json
import time

import pytest
from redis.asyncio import Redis

from services.common.models import ResolvedRepo, Spec, Visibility
from services.common.records.launch_cache import CachedAnswers, CachedImage, LaunchCache
from services.common.redis.keys import Keys
from tests.support.metrics import sample

UNREADABLE_KINDS = ("ResolvedRepo", "CachedImage")
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


NEXT_RELEASE = {"v": 2, "signed_by": "next"}


async def test_an_answer_that_cannot_be_read_is_none_and_is_written_anew(
    launch_cache: LaunchCache, redis: Redis
) -> None:
    await launch_cache.store_repo(REPO, "rules")
    await launch_cache.store_image(REPO, image(), STORE_ID)
    keys = [key async for key in redis.scan_iter("bindery:test:fact:*")]
    assert len(keys) == 3
    before = {kind: sample("bindery_cached_answers_unreadable_total", answer=kind) for kind in UNREADABLE_KINDS}

    for body in (b"{", b"[]", b"{}", b'{"v": 2, "commit": "next"}', b"\xff"):
        for key in keys:
            policy = (await redis.get(key)).partition(b" ")[0]
            await redis.set(key, policy + b" " + body)
        assert await looked_up(launch_cache) == CachedAnswers(None, None)
        assert await launch_cache.find_image(REPO) is None
    after = {kind: sample("bindery_cached_answers_unreadable_total", answer=kind) for kind in UNREADABLE_KINDS}
    assert {kind: after[kind] - before[kind] for kind in UNREADABLE_KINDS} == {"ResolvedRepo": 5, "CachedImage": 5}

    stored_image = image()
    await launch_cache.store_repo(REPO, "rules")
    await launch_cache.store_image(REPO, stored_image, STORE_ID)
    assert await looked_up(launch_cache) == CachedAnswers(REPO, stored_image)


async def test_an_image_that_cannot_be_read_leaves_the_link(launch_cache: LaunchCache, redis: Redis) -> None:
    await launch_cache.store_repo(REPO, "rules")
    await launch_cache.store_image(REPO, image(), STORE_ID)
    async for key in redis.scan_iter("bindery:test:fact:built:*"):
        await redis.set(key, f"{STORE_ID} {{")
    assert await looked_up(launch_cache) == CachedAnswers(REPO, None)


async def test_an_answer_of_the_next_release_is_read_without_what_that_has_added(
    launch_cache: LaunchCache, redis: Redis
) -> None:
    stored_image = image()
    await launch_cache.store_repo(REPO, "rules")
    await launch_cache.store_image(REPO, stored_image, STORE_ID)
    async for key in redis.scan_iter("bindery:test:fact:*"):
        policy, _, body = (await redis.get(key)).decode().partition(" ")
        await redis.set(key, f"{policy} {json.dumps(json.loads(body) | NEXT_RELEASE)}")

    answers = await looked_up(launch_cache)
    assert answers.repo is not None
    assert answers.repo.updated(v=1) == REPO
    assert answers.image is not None
    assert answers.image.updated(v=1) == stored_image
