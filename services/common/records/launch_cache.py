"""Facts: what cannot change, kept where the next launch finds it in one round trip. A cache: losing one costs time.

A fact carries the time at which its source was asked. A deleted fact leaves a short tombstone, so that a writer
who asked before the deletion can't bring it back. Each is kept with the policy that it holds under, and counts while
that is the one in force: the resolver's bans, and the place where the builder has its images.
"""

import contextlib
import hashlib
import time
from dataclasses import dataclass

from redis.asyncio import Redis

from services.common.models import BuildInput, Contract, ResolvedRepo, Spec, Visibility
from services.common.redis.client import REDIS_UNAVAILABLE
from services.common.redis.keys import Keys
from services.common.redis.scripts import ScriptCall, Scripts

TOMBSTONE = b"-"


class CachedImage(Contract):
    """This input's image is where the builder has its images, under this name and digest."""

    v: int = 1
    image: str
    digest: str | None = None
    build_id: str | None = None
    asked_at: float


@dataclass(frozen=True)
class CachedAnswers:
    """What is known ahead of a launch."""

    repo: ResolvedRepo | None
    image: CachedImage | None


class LaunchCache:
    """Reads and writes facts about public repositories."""

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        *,
        ttl_seconds: float = 86400.0,
        tombstone_seconds: float = 60.0,
    ) -> None:
        self._redis, self._keys = redis, keys
        self._scripts = Scripts(redis, "services.common.records.scripts")
        self._policies = [keys("policy:resolver"), keys("policy:images")]
        self._ttl_ms, self._tombstone_ms = int(ttl_seconds * 1000), int(tombstone_seconds * 1000)

    def _repo_key(self, spec: Spec) -> str:
        return self._keys(f"fact:repo:{_digest(spec)}")

    def _link_image_key(self, spec: Spec) -> str:
        # Not below the link's own key: who may say what a link means is not to say which image it has.
        return self._keys(f"fact:built:link:{_digest(spec)}")

    def _image_keys(self, repo: ResolvedRepo) -> list[str]:
        """Where the fact of a repository's image is kept: under what it is made from, and under the link.

        (Not `fact:image:`, where facts were kept under no policy: a gateway of that version still looks there.)
        """
        link = Spec(provider=repo.provider, spec=repo.spec)
        return [self._keys(f"fact:built:{BuildInput.of(repo).fingerprint}"), self._link_image_key(link)]

    def lookup_call(self, spec: Spec) -> ScriptCall:
        """The script call that asks what is known of a link, to be run together with others; see `parse_lookup`.

        The image's fact is kept twice, under its input and under the link, for that one trip.
        """
        keys = [self._repo_key(spec), self._link_image_key(spec), *self._policies]
        return ScriptCall(self._scripts, "facts", keys, [])

    @staticmethod
    def parse_lookup(answer: list[bytes | None]) -> CachedAnswers:
        """What the answer to `lookup_call` means."""
        repo_raw, image_raw, judged_by, kept_in = answer
        if (repo := _under(judged_by, repo_raw)) is None:
            return CachedAnswers(None, None)
        image = _under(kept_in, image_raw)
        return CachedAnswers(
            ResolvedRepo.model_validate_json(repo), CachedImage.model_validate_json(image) if image else None
        )

    async def find_image(self, repo: ResolvedRepo) -> CachedImage | None:
        """The image of a repository that was resolved just now."""
        with contextlib.suppress(*REDIS_UNAVAILABLE):
            raw, kept_in = await self._redis.mget(self._image_keys(repo)[0], self._policies[1])
            image = _under(kept_in, raw)
            return CachedImage.model_validate_json(image) if image else None
        return None

    async def store_repo(self, repo: ResolvedRepo, policy: str) -> None:
        """Keep what a link means, if it means that for ever and anyone may know.

        `policy` names the bans and allowances that it was judged by: a fact holds only while the resolver has them.
        """
        if repo.immutable_spec and repo.visibility is Visibility.PUBLIC:
            key = self._repo_key(Spec(provider=repo.provider, spec=repo.spec))
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.set(self._keys("policy:resolver"), policy)
                pipe.set(key, f"{policy} {repo.model_dump_json(exclude_none=True)}", px=self._ttl_ms)
                await pipe.execute()

    async def set_policy(self, policy: str) -> None:
        """Say which policy the resolver has now; facts judged by another don't count any more."""
        await self._redis.set(self._keys("policy:resolver"), policy)

    async def set_image_place(self, place: str) -> None:
        """Say where the builder has its images now; facts about those of another place don't count any more."""
        await self._redis.set(self._policies[1], place)

    async def store_image(self, repo: ResolvedRepo, fact: CachedImage, place: str) -> None:
        """Keep that an image exists in a place; a tombstone younger than the question stays."""
        if repo.visibility is not Visibility.PUBLIC or fact.asked_at < time.time() - self._tombstone_ms / 1000:
            return
        keys = self._image_keys(repo)
        raw = f"{place} {fact.model_dump_json(exclude_none=True)}"
        with contextlib.suppress(*REDIS_UNAVAILABLE):
            await self._scripts.run(
                "keep_fact", [self._policies[1], *(keys if repo.immutable_spec else keys[:1])],
                [raw, self._ttl_ms, TOMBSTONE, place],
            )  # fmt: skip

    async def forget_image(self, repo: ResolvedRepo) -> None:
        """The image is gone after all: no fact says otherwise for a while."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for key in self._image_keys(repo):
                pipe.set(key, TOMBSTONE, px=self._tombstone_ms)
            await pipe.execute()


def _digest(spec: Spec) -> str:
    return hashlib.sha256(str(spec).encode()).hexdigest()[:32]


def _under(policy: bytes | None, raw: bytes | None) -> bytes | None:
    """A fact without its policy; None where it is unknown, deleted, or was kept under another than that in force."""
    if not policy or not raw or not raw.startswith(policy + b" "):
        return None
    return raw.partition(b" ")[2]
