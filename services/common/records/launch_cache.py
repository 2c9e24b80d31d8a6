"""The launch cache: answers that cannot change, which the next launch of a link reads in one round trip.

An answer is the commit that a link means, or the image of a commit. Losing one costs time, nothing else. An image is
cached with the time at which its registry was asked; withdrawing it leaves a short-lived tombstone, so that a writer
that asked before can't bring it back. Each answer is stored with the policy under which it holds, and is ignored under
any other: the resolver's bans, and the store that has the builder's images.
"""

import contextlib
import hashlib
from dataclasses import dataclass
from typing import TypeVar

from prometheus_client import Counter
from pydantic import ValidationError
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from services.common.models import BuildInput, Contract, ResolvedRepo, Spec, Visibility
from services.common.models.base import faults_of
from services.common.redis.client import REDIS_UNAVAILABLE
from services.common.redis.keys import Keys
from services.common.redis.scripts import ScriptCall, Scripts
from services.common.service.clock import clock
from services.common.service.logging import get_logger

log = get_logger(__name__)

A = TypeVar("A", bound=Contract)

UNREADABLE = Counter(
    "bindery_cached_answers_unreadable_total", "Cached answers that could not be read and were not used", ["answer"]
)

TOMBSTONE = b"-"
"""Value of an answer that was withdrawn lately."""


class CachedImage(Contract):
    """The cached image of a build input, which has this name and digest in the builder's image store."""

    v: int = 1
    image: str
    digest: str | None = None
    build_id: str | None = None
    asked_at: float


@dataclass(frozen=True)
class CachedAnswers:
    """The cached answers for one link; None for each part that it lacks."""

    repo: ResolvedRepo | None
    image: CachedImage | None


class LaunchCache:
    """Reads and writes answers about public repositories; those about private ones are never cached."""

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        *,
        ttl_seconds: float = 86400.0,
        tombstone_seconds: float = 60.0,
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._scripts = Scripts(redis, "services.common.records.scripts")
        self._resolver_policy_key = keys("policy:resolver")
        self._image_store_key = keys("policy:images")
        self._ttl_ms = int(ttl_seconds * 1000)
        self._tombstone_ms = int(tombstone_seconds * 1000)

    def _repo_key(self, spec: Spec) -> str:
        return self._keys(f"fact:repo:{_digest(spec)}")

    def _link_image_key(self, spec: Spec) -> str:
        # Not below the link's own key: the Redis user that may write what a link means must not write its image.
        return self._keys(f"fact:built:link:{_digest(spec)}")

    def _image_keys(self, repo: ResolvedRepo) -> list[str]:
        """Return both keys of a repository's image: by what the image is made from, and by the link.

        They don't begin with `fact:image:`, as an older version, which had no policies, still looks there.
        """
        link = Spec(provider=repo.provider, spec=repo.spec)
        return [self._keys(f"fact:built:{BuildInput.of(repo).fingerprint}"), self._link_image_key(link)]

    def lookup_call(self, spec: Spec) -> ScriptCall:
        """Return the call that looks a link up, to be run together with others; `parse_lookup` reads its reply.

        An image is stored under its link as well as under its input, so that this call needs to know only the link.
        """
        keys = [self._repo_key(spec), self._link_image_key(spec), self._resolver_policy_key, self._image_store_key]
        return ScriptCall(self._scripts, "read_answers", keys, [])

    @staticmethod
    def parse_lookup(answer: list[bytes | None]) -> CachedAnswers:
        """Return the answers in the reply to `lookup_call`."""
        repo_raw, image_raw, policy, store_id = answer
        repo = _parse(ResolvedRepo, policy, repo_raw)
        if repo is None:
            return CachedAnswers(None, None)
        return CachedAnswers(repo, _parse(CachedImage, store_id, image_raw))

    async def find_image(self, repo: ResolvedRepo) -> CachedImage | None:
        """Return the cached image of a repository, or None; also if Redis is unavailable."""
        by_input, _ = self._image_keys(repo)
        with contextlib.suppress(*REDIS_UNAVAILABLE):
            raw, store_id = await self._redis.mget(by_input, self._image_store_key)
            return _parse(CachedImage, store_id, raw)
        return None

    async def store_repo(self, repo: ResolvedRepo, policy: str) -> None:
        """Store what a link means, and the policy, in a round trip of its own. See `add_repo`."""
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.set(self._resolver_policy_key, policy)
            self.add_repo(pipe, repo, policy)
            await pipe.execute()

    def add_repo(self, pipe: Pipeline, repo: ResolvedRepo, policy: str) -> None:
        """Have a pipeline store what a link means, if it can't change and the repository is public.

        `policy` identifies the bans and allowances that were applied; the answer holds while those are in force. Which
        are, the resolver's policy says (`services.resolver.policy.store`): not whoever stores an answer.
        """
        if not repo.immutable_spec or repo.visibility is not Visibility.PUBLIC:
            return

        key = self._repo_key(Spec(provider=repo.provider, spec=repo.spec))
        pipe.set(key, f"{policy} {repo.model_dump_json(exclude_none=True)}", px=self._ttl_ms)

    async def set_policy(self, policy: str) -> None:
        """Store the resolver's current policy; answers stored under another are ignored from now on."""
        await self._redis.set(self._resolver_policy_key, policy)

    async def set_image_store_id(self, store_id: str) -> None:
        """Record which store has the builder's images; cached images of another one are ignored from now on."""
        await self._redis.set(self._image_store_key, store_id)

    async def store_image(self, repo: ResolvedRepo, image: CachedImage, store_id: str) -> None:
        """Cache an image that exists in an image store, unless it was withdrawn after its registry was asked."""
        is_older_than_tombstones = image.asked_at < clock.now() - self._tombstone_ms / 1000
        if repo.visibility is not Visibility.PUBLIC or is_older_than_tombstones:
            return

        by_input, by_link = self._image_keys(repo)
        keys = [self._image_store_key, by_input]
        if repo.immutable_spec:
            keys.append(by_link)
        raw = f"{store_id} {image.model_dump_json(exclude_none=True)}"
        with contextlib.suppress(*REDIS_UNAVAILABLE):
            await self._scripts.run("store_answer", keys, [raw, self._ttl_ms, TOMBSTONE, store_id])

    async def withdraw_image(self, repo: ResolvedRepo) -> None:
        """Replace a cached image by a tombstone: it turned out to be missing."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for key in self._image_keys(repo):
                pipe.set(key, TOMBSTONE, px=self._tombstone_ms)
            await pipe.execute()


def _digest(spec: Spec) -> str:
    return hashlib.sha256(str(spec).encode()).hexdigest()[:32]


def _parse(kind: type[A], policy: bytes | None, raw: bytes | None) -> A | None:
    """Return a cached answer that holds under a policy, or in an image store; None if there is none.

    One that this release can't read is none. It is not deleted: the launch that misses it has it written anew, and
    a gateway may not write what a link means.
    """
    answer = _valid_under(policy, raw)
    if answer is None:
        return None

    try:
        return kind.model_validate_json(answer)
    except ValidationError as error:
        UNREADABLE.labels(kind.__name__).inc()
        log.warning("cached_answer_unreadable", answer=kind.__name__, reason=faults_of(error))
        return None


def _valid_under(policy: bytes | None, raw: bytes | None) -> bytes | None:
    """Return an answer without its policy, or store id; None if it is missing, withdrawn, or stored under another."""
    if not policy or not raw or not raw.startswith(policy + b" "):
        return None
    return raw.partition(b" ")[2]
