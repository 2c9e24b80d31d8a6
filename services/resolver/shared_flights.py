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
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from services.common.models import ResolvedRepo
from services.common.models.errors import BinderyError
from services.common.redis.keys import Keys
from services.common.service.clock import clock
from services.resolver.answers import REDIS_AWAY, REDIS_SECONDS, Answer, parse_answer
from services.resolver.providers.base import Resolved

SHARED = Counter("bindery_resolved_elsewhere_total", "Links whose answer came from another replica's request")

Store = Callable[[Pipeline, Answer], None]
"""Adds commands to the round trip in which an answer is published."""

UNDER_WAY = b"?"
"""The value while a replica asks."""
ANSWER_MS = 500
"""How long an answer stays, for those that wait: no longer than a person takes to push and to click."""
POLL_SECONDS = 0.05


class SharedFlights:
    """Runs work for one replica while the others wait for its answer, at most `wait_seconds`."""

    def __init__(self, redis: Redis, keys: Keys, *, wait_seconds: float) -> None:
        self._redis = redis
        self._keys = keys
        self._wait_seconds = wait_seconds

    async def run(self, name: str, work: Callable[[], Awaitable[Resolved]], store: Store) -> ResolvedRepo:
        """Return the result of `work`, or of the same work of another replica; raise its `BinderyError`.

        `store` adds to the round trip that publishes the answer. A private repository is told to nobody.
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
        try:
            found = await work()
            answer = Answer.of(found.repo, found.validator)
            return found.repo
        except BinderyError as error:
            answer = Answer.why_not(error)
            raise
        finally:
            await self._publish(key, answer, store)

    async def _join(self, key: str) -> Answer | None:
        """Return the answer of the replica that asks at the moment; None if this one is to ask."""
        began_at = clock.now()
        ends_at = time.monotonic() + self._wait_seconds
        wait_ms = int(self._wait_seconds * 1000)
        while time.monotonic() < ends_at:
            async with asyncio.timeout(REDIS_SECONDS):
                raw = await self._redis.set(key, UNDER_WAY, px=wait_ms, nx=True, get=True)
            if raw is None:
                return None
            if raw != UNDER_WAY:
                answer = parse_answer(raw)
                if answer and answer.asked_at >= began_at:
                    return answer
                # Of before we were asked: since then somebody may have pushed.
                async with asyncio.timeout(REDIS_SECONDS):
                    await self._redis.set(key, UNDER_WAY, px=wait_ms)
                return None
            await asyncio.sleep(POLL_SECONDS)
        return None

    async def _publish(self, key: str, answer: Answer, store: Store) -> None:
        """Tell the others what was found out; if that is nothing, one of them asks next."""
        with contextlib.suppress(*REDIS_AWAY):
            async with asyncio.timeout(REDIS_SECONDS), self._redis.pipeline(transaction=False) as pipe:
                pipe.set(key, answer.model_dump_json(exclude_none=True), px=ANSWER_MS if answer.is_known else 1)
                if answer.is_known:
                    store(pipe, answer)
                await pipe.execute()
