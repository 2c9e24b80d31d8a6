"""Facts: what cannot change, kept where the next launch finds it in one round trip. A cache: losing one costs time.

A fact carries the time at which its source was asked. A deleted fact leaves a short tombstone, so that a writer
who asked before the deletion can't bring it back.
"""

import contextlib
import hashlib
import time
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from services.common.keys import Keys
from services.common.models import BuildInput, Contract, ResolvedRepo, Spec, Visibility
from services.common.redis import AWAY, Scripts

TOMBSTONE = b"-"


class ImageFact(Contract):
    """This input's image is in the registry, under this name and digest."""

    v: int = 1
    image: str
    digest: str | None = None
    build_id: str | None = None
    asked_at: float


@dataclass(frozen=True)
class Known:
    """What is known ahead of a launch."""

    repo: ResolvedRepo | None
    image: ImageFact | None


class Facts:
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
        self._scripts = Scripts(redis, "services.common.scripts")
        self._ttl_ms, self._tombstone_ms = int(ttl_seconds * 1000), int(tombstone_seconds * 1000)

    def _repo_key(self, spec: Spec) -> str:
        return self._keys(f"fact:repo:{hashlib.sha256(str(spec).encode()).hexdigest()[:32]}")

    def _image_key(self, made_from: BuildInput) -> str:
        return self._keys(f"fact:image:{made_from.fingerprint}")

    def question(self, spec: Spec) -> tuple[Scripts, str, list[str], list[Any]]:
        """The script call that asks what is known of a link, to be run together with others; see `known`.

        The image's fact is kept twice, under its input and beside the link's repository, for that one trip.
        """
        key = self._repo_key(spec)
        return self._scripts, "facts", [key, f"{key}:image", self._keys("policy:resolver")], []

    @staticmethod
    def known(answer: list[bytes | None]) -> Known:
        """What the answer to `question` means."""
        repo_raw, image_raw, policy = answer
        if not repo_raw or not policy or not repo_raw.startswith(policy + b" "):
            return Known(None, None)  # unknown, or judged by another policy than the resolver has now
        repo = ResolvedRepo.model_validate_json(repo_raw.partition(b" ")[2])
        image = ImageFact.model_validate_json(image_raw) if image_raw and image_raw != TOMBSTONE else None
        return Known(repo, image)

    async def image_of(self, repo: ResolvedRepo) -> ImageFact | None:
        """The image of a repository that was resolved just now."""
        with contextlib.suppress(*AWAY):
            raw = await self._redis.get(self._image_key(BuildInput.of(repo)))
            return ImageFact.model_validate_json(raw) if raw and raw != TOMBSTONE else None
        return None

    async def resolved(self, repo: ResolvedRepo, policy: str) -> None:
        """Keep what a link means, if it means that for ever and anyone may know.

        `policy` names the bans and allowances that it was judged by: a fact holds only while the resolver has them.
        """
        if repo.immutable_spec and repo.visibility is Visibility.PUBLIC:
            key = self._repo_key(Spec(provider=repo.provider, spec=repo.spec))
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.set(self._keys("policy:resolver"), policy)
                pipe.set(key, f"{policy} {repo.model_dump_json(exclude_none=True)}", px=self._ttl_ms)
                await pipe.execute()

    async def judged_by(self, policy: str) -> None:
        """Say which policy the resolver has now; facts judged by another don't count any more."""
        await self._redis.set(self._keys("policy:resolver"), policy)

    async def has_image(self, repo: ResolvedRepo, fact: ImageFact) -> None:
        """Keep that an image exists; a tombstone younger than the question stays."""
        if repo.visibility is not Visibility.PUBLIC or fact.asked_at < time.time() - self._tombstone_ms / 1000:
            return
        raw = fact.model_dump_json(exclude_none=True)
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.set(self._image_key(BuildInput.of(repo)), raw, px=self._ttl_ms, nx=True)
            if repo.immutable_spec:
                key = self._repo_key(Spec(provider=repo.provider, spec=repo.spec))
                pipe.set(f"{key}:image", raw, px=self._ttl_ms, nx=True)
            with contextlib.suppress(*AWAY):
                await pipe.execute()

    async def forget_image(self, repo: ResolvedRepo) -> None:
        """The image is gone after all: no fact says otherwise for a while."""
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.set(self._image_key(BuildInput.of(repo)), TOMBSTONE, px=self._tombstone_ms)
            key = self._repo_key(Spec(provider=repo.provider, spec=repo.spec))
            pipe.set(f"{key}:image", TOMBSTONE, px=self._tombstone_ms)
            await pipe.execute()
