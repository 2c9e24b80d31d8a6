"""One upstream request for all replicas of the resolver that are asked about the same link at the same time.

The replica that asks first leaves a marker in Redis, and replaces it by its answer, which stays for a moment. The
others wait for that. If the first one dies, its marker expires, and one of the others takes its place. Redis is no more
than a help: without it, or after a short wait, a replica asks by itself.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

from prometheus_client import Counter
from pydantic import ValidationError
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import RedisError

from services.common.models import Contract, Problem, ResolvedRepo, Visibility
from services.common.models.errors import BinderyError
from services.common.redis.keys import Keys

SHARED = Counter("bindery_resolved_elsewhere_total", "Links whose answer came from another replica's request")

Store = Callable[[Pipeline, ResolvedRepo], None]
"""Adds commands to the round trip in which an answer is published."""

UNDER_WAY = b"?"
"""The value while a replica asks."""
ANSWER_MS = 500
"""How long an answer stays, for those that wait: no longer than a person takes to push and to click."""
POLL_SECONDS = 0.05
REDIS_SECONDS = 1.0
REDIS_AWAY = (RedisError, OSError, TimeoutError)
"""Refusals, too: Redis is a help, whatever it says."""


class Answer(Contract):
    """What a replica found out: a repository, or why there is none."""

    v: int = 1
    repo: ResolvedRepo | None = None
    problem: Problem | None = None

    @property
    def is_known(self) -> bool:
        """Whether anything was found out that others may be told."""
        return self.repo is not None or self.problem is not None

    def result(self) -> ResolvedRepo:
        """Return the repository, or raise the `BinderyError` that says why there is none."""
        if self.repo:
            return self.repo
        raise BinderyError.of(self.problem) if self.problem else BinderyError("internal")


class SharedFlights:
    """Runs work for one replica while the others wait for its answer, at most `wait_seconds`."""

    def __init__(self, redis: Redis, keys: Keys, *, wait_seconds: float) -> None:
        self._redis = redis
        self._keys = keys
        self._wait_seconds = wait_seconds

    async def run(self, name: str, work: Callable[[], Awaitable[ResolvedRepo]], store: Store) -> ResolvedRepo:
        """Return the result of `work`, or of the same work of another replica; raise its `BinderyError`.

        `store` adds to the round trip that publishes the result. A private repository is told to nobody.
        """
        key = self._keys(f"flight:{name}")
        answer = None
        # After an error this replica asks by itself, and publishes all the same: others wait for it if only the reply
        # was lost, and with the rights of the release before, an answer for later launches may be stored.
        with contextlib.suppress(*REDIS_AWAY):
            answer = await self._join(key)
        if answer:
            SHARED.inc()
            return answer.result()

        answer = Answer()
        repo = None
        try:
            repo = await work()
            if repo.visibility is Visibility.PUBLIC:
                answer = Answer(repo=repo)
            return repo
        except BinderyError as error:
            answer = Answer(problem=error.problem)
            raise
        finally:
            await self._publish(key, answer, store=store, repo=repo)

    async def _join(self, key: str) -> Answer | None:
        """Return the answer of the replica that asks at the moment; None if this one is to ask."""
        ends_at = time.monotonic() + self._wait_seconds
        wait_ms = int(self._wait_seconds * 1000)
        while time.monotonic() < ends_at:
            async with asyncio.timeout(REDIS_SECONDS):
                raw = await self._redis.set(key, UNDER_WAY, px=wait_ms, nx=True, get=True)
            if raw is None:
                return None
            if raw != UNDER_WAY:
                return _parse(raw)
            await asyncio.sleep(POLL_SECONDS)
        return None

    async def _publish(self, key: str, answer: Answer, *, store: Store, repo: ResolvedRepo | None) -> None:
        """Tell the others what was found out; if that is nothing, one of them asks next."""
        with contextlib.suppress(*REDIS_AWAY):
            async with asyncio.timeout(REDIS_SECONDS), self._redis.pipeline(transaction=False) as pipe:
                pipe.set(key, answer.model_dump_json(exclude_none=True), px=ANSWER_MS if answer.is_known else 1)
                if repo:
                    store(pipe, repo)
                await pipe.execute()


def _parse(raw: bytes) -> Answer | None:
    """Return an answer of another replica; None if it found nothing out, or this release can't read it."""
    try:
        answer = Answer.model_validate_json(raw)
    except ValidationError:
        return None
    return answer if answer.is_known else None
