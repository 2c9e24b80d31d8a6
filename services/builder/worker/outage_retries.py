"""Patience with a registry or an executor that does not answer: calls are repeated, and followers read the reason."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from services.builder.executors.base import ExecutorUnavailableError
from services.common.models.errors import BinderyError
from services.common.service.backoff import Backoff
from services.common.service.logging import get_logger

log = get_logger(__name__)

T = TypeVar("T")

FAILS_WITHIN_SECONDS = 60.0
"""A call to a platform that does not answer fails within this time: one that took longer has worked before."""


@dataclass(kw_only=True)
class OutageRetries:
    """The repetition of one build's calls while the registry or the executor does not answer."""

    patience_seconds: float
    announce: Callable[[str], Awaitable[None]]
    """Sends a sentence to the followers of the build."""
    progress: int = 0
    """What the calls have yielded so far, counted by the caller: an outage after progress is another one."""

    async def call(self, call: Callable[[], Awaitable[T]]) -> T:
        """Return the result of a call, repeated with back-off during an outage, whose reason is announced once.

        Raise `BinderyError`: `registry_unavailable` or `executor_unavailable` if the outage lasts too long.
        """
        loop = asyncio.get_running_loop()
        backoff: Backoff | None = None
        announced = ""

        while True:
            started = loop.time()
            progress_before = self.progress
            try:
                return await call()
            except ExecutorUnavailableError as error:
                outage = BinderyError("executor_unavailable")
                why = str(error)
            except BinderyError as error:
                if not error.has_code("registry_unavailable"):
                    raise
                outage = error
                why = error.detail

            has_worked = self.progress != progress_before or loop.time() - started > FAILS_WITHIN_SECONDS
            if backoff is None or has_worked:
                backoff = self._backoff()
                announced = ""

            if backoff.is_exhausted:
                log.warning("gave_up_waiting", code=outage.code, why=why)
                raise outage

            if outage.code != announced:
                announced = outage.code
                log.warning("waiting", code=outage.code, why=why)  # followers read the sentence alone
                await self.announce(f"{outage.detail} Waiting for it ...")
            await backoff.sleep()

    def _backoff(self) -> Backoff:
        return Backoff(first_seconds=0.2, longest_seconds=5.0, patience_seconds=self.patience_seconds, jitter=0.0)
