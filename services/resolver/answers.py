"""What links mean, as far as it was found out before: shared by all replicas of the resolver, in Redis.

An answer about a commit's own link holds for long. One about a branch is asked again each time, with its validator, so
that the forge may say that nothing has changed; while the forge can't be asked, it stands in for the truth. Only public
repositories are kept. Redis is no more than a help.
"""

import asyncio
from collections.abc import MutableMapping
from dataclasses import dataclass

from cachetools import LRUCache
from pydantic import ValidationError
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import RedisError

from services.common.models import Contract, Problem, ResolvedRepo, Visibility
from services.common.models.error_codes import ErrorCode
from services.common.models.errors import BinderyError
from services.common.redis.keys import Keys
from services.common.service.clock import clock

REDIS_SECONDS = 1.0
REDIS_AWAY = (RedisError, OSError, TimeoutError)
"""Refusals, too: Redis is a help, whatever it says."""
OWN_ANSWERS = 1024
STANDS_IN_FOR: tuple[ErrorCode, ...] = ("provider_unavailable", "rate_limited")


class Answer(Contract):
    """What was found out at `asked_at`: a repository, or why there is none; neither if it is told to nobody.

    `validator` is the provider's own: with it the provider asks whether the answer has changed.
    """

    v: int = 1
    repo: ResolvedRepo | None = None
    problem: Problem | None = None
    validator: str = ""
    asked_at: float = 0.0

    @property
    def is_known(self) -> bool:
        """Whether anything was found out that others may be told."""
        return self.repo is not None or self.problem is not None

    def result(self) -> ResolvedRepo:
        """Return the repository, or raise the `BinderyError` that says why there is none."""
        if self.repo:
            return self.repo
        raise BinderyError.of(self.problem) if self.problem else BinderyError("internal")

    @classmethod
    def of(cls, repo: ResolvedRepo, validator: str = "") -> "Answer":
        """Return the answer that is a repository; an empty one if that is private."""
        if repo.visibility is not Visibility.PUBLIC:
            return cls()
        return cls(repo=repo, validator=validator, asked_at=clock.now())

    @classmethod
    def why_not(cls, error: BinderyError) -> "Answer":
        """Return the answer that is an error."""
        return cls(problem=error.problem, asked_at=clock.now())


@dataclass(frozen=True, kw_only=True)
class Lifetimes:
    """How long answers are used, in seconds."""

    immutable: float
    missing: float
    stand_in: float


class Answers:
    """Reads and writes answers, by a name that stands for the link, the rules and the credentials of the asker.

    While Redis is away, what this process has found out itself is used.
    """

    def __init__(self, redis: Redis, keys: Keys, lifetimes: Lifetimes) -> None:
        self._redis = redis
        self._keys = keys
        self._lifetimes = lifetimes
        self._own: MutableMapping[str, Answer] = LRUCache(OWN_ANSWERS)

    async def read(self, name: str) -> Answer | None:
        """Return what was found out last; None if that is nothing, or too long ago, or Redis is away."""
        try:
            async with asyncio.timeout(REDIS_SECONDS):
                return parse_answer(await self._redis.get(self._key(name)))
        except REDIS_AWAY:
            return self._read_own(name)

    async def read_with_policy(self, name: str) -> tuple[Answer | None, str | None]:
        """Return what `read` does, and the id of the rules in force, in the same round trip; None if Redis is away."""
        try:
            async with asyncio.timeout(REDIS_SECONDS):
                answer, rules_id = await self._redis.mget(self._key(name), self._keys("policy:resolver"))
        except REDIS_AWAY:
            return self._read_own(name), None
        return parse_answer(answer), (rules_id or b"").decode(errors="replace")

    def _read_own(self, name: str) -> Answer | None:
        own = self._own.get(name)
        return own if own and clock.now() < own.asked_at + self._seconds(own) else None

    def add(self, pipe: Pipeline, name: str, answer: Answer) -> None:
        """Have a pipeline store an answer, unless it is an error of the moment, which says nothing about the link."""
        if seconds := self._seconds(answer):
            self._own[name] = answer
            pipe.set(self._key(name), answer.model_dump_json(exclude_none=True), px=int(seconds * 1000))

    def holds(self, answer: Answer) -> bool:
        """Return whether an answer is used without asking the provider again."""
        return answer.problem is not None or (answer.repo is not None and answer.repo.immutable_spec)

    def stand_in(self, answer: Answer, error: BinderyError) -> ResolvedRepo | None:
        """Return an earlier repository, with a notice, for a link whose provider can't be asked; None without one."""
        if not answer.repo or not error.has_code(*STANDS_IN_FOR):
            return None
        minutes = max(1, round((clock.now() - answer.asked_at) / 60))
        ago = "a minute" if minutes == 1 else f"{minutes} minutes"
        notice = f"{error.detail} This is the commit that the link meant {ago} ago."
        return answer.repo.updated(notice=f"{answer.repo.notice} {notice}" if answer.repo.notice else notice)

    def _seconds(self, answer: Answer) -> float:
        if answer.repo:
            return self._lifetimes.immutable if answer.repo.immutable_spec else self._lifetimes.stand_in
        return self._lifetimes.missing if answer.problem and answer.problem.has_code("ref_not_found") else 0

    def _key(self, name: str) -> str:
        return self._keys(f"answer:{name}")


def parse_answer(raw: bytes | None) -> Answer | None:
    """Return an answer of a replica; None if it found nothing out, or this release can't read it."""
    if raw is None:
        return None
    try:
        answer = Answer.model_validate_json(raw)
    except ValidationError:
        return None
    return answer if answer.is_known else None
