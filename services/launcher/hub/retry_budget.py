"""Limits on one start: a budget of retries shared by all its calls to the hub, and a deadline that can move."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TypeVar

from services.common.models.errors import BinderyError
from services.common.service.backoff import Backoff
from services.common.service.clock import clock
from services.common.service.logging import get_logger
from services.launcher.hub.errors import HubUnavailable
from services.launcher.settings import LauncherSettings

log = get_logger(__name__)

T = TypeVar("T")
PAUSE_MAX_SECONDS = 5.0

Announce = Callable[[str], Awaitable[None]]
"""Sends a sentence to the followers of the start."""


class RetryBudget:
    """How often, and for how long, the hub may fail one start.

    A busy hub (429) is healthy: waiting for it costs time, but no retry.
    """

    def __init__(self, settings: LauncherSettings, announce: Announce) -> None:
        self._settings = settings
        self._announce = announce
        self._retries_left = settings.hub_retries_max
        self._seconds_left = settings.hub_patience_seconds
        self._last_announced = ""

        self.busy_reason = ""
        """The answer of the hub, while it is too busy for this start."""
        self.unavailable_error: BinderyError | None = None
        """The error of a start whose deadline passes before the hub has answered again."""

    async def call(self, action: str, call: Callable[[], Awaitable[T]]) -> T:
        """Return the result of a call, repeated while the hub is unavailable; announce each new reason to wait.

        Raise `BinderyError("hub_unavailable")` when the budget is spent.
        """
        loop = asyncio.get_running_loop()
        pauses = Backoff(first_seconds=self._settings.retry_pause_seconds, longest_seconds=PAUSE_MAX_SECONDS)

        while True:
            started_at = loop.time()
            try:
                result = await call()
            except HubUnavailable as error:
                wait = self._wait_seconds(error, pauses.next_wait_seconds())
                if error.is_busy:
                    self.busy_reason = str(error)
                else:
                    self.busy_reason = ""
                    silent = error.silent_seconds
                    if silent is None:
                        silent = loop.time() - started_at
                    self._spend(action, error, silent + wait)
                await self._announce_once(action, error)
            else:
                self.busy_reason = ""
                return result

            await asyncio.sleep(wait)

    def _wait_seconds(self, error: HubUnavailable, pause: float) -> float:
        wait = error.retry_after_seconds or pause
        if not error.is_busy:
            return min(wait, self._settings.hub_patience_seconds)
        # Spread the starts that a busy hub turned away, so that they do not all come back at once.
        return min(wait, self._settings.hub_busy_pause_max_seconds) * random.uniform(0.7, 1.0)  # noqa: S311 - no secret

    async def record_failure(self, action: str, error: HubUnavailable) -> None:
        """Charge for a start that the hub lost although it answered; `action` names the call that is repeated.

        Raise `BinderyError("hub_unavailable")` when the budget is spent.
        """
        self._spend(action, error, 0.0)
        await self._announce_once(action, error)

    def on_progress(self) -> None:
        """Note that the hub reports progress, so it is not unavailable any more."""
        self._last_announced = ""
        self.unavailable_error = None

    async def _announce_once(self, action: str, error: HubUnavailable) -> None:
        announcement = f"{action}: {'' if error.is_busy else error}"
        if announcement == self._last_announced:
            return
        self._last_announced = announcement
        log.warning("hub_away", doing=action, error=str(error), is_busy=error.is_busy)
        await self._announce(f"JupyterHub could not {action} yet ({error}); asking again.")

    def _spend(self, action: str, error: HubUnavailable, seconds: float) -> None:
        self._retries_left -= 1
        self._seconds_left -= seconds
        self.unavailable_error = BinderyError("hub_unavailable", f"JupyterHub could not {action}: {error}.")
        if self._retries_left < 0 or self._seconds_left < 0:
            raise self.unavailable_error from error


class Deadline:
    """Time by which a start must be ready. Progress extends it, up to a hard maximum.

    A start whose spawner has reported only steps that no pattern knows may be healthy, so each such step extends the
    deadline generously. The first known step ends that. With 60 s for each step, and 600 s for unknown ones:

          0 s  within(60)                  ready by 60 s
         20 s  extend_while_unknown(600)   ready by 620 s
        100 s  on_known_step(60)           ready by 160 s, because 60 s have passed
        150 s  extend(60)                  ready by 210 s
    """

    def __init__(self) -> None:
        self._timeout: asyncio.Timeout | None = None
        self._latest = float("inf")
        self._known_until = 0.0
        self._unknown_until = 0.0

    @contextlib.asynccontextmanager
    async def within(self, seconds: float, *, hard_seconds: float) -> AsyncIterator[None]:
        """Raise `TimeoutError` if the block takes longer than `seconds` and all extensions."""
        now = asyncio.get_running_loop().time()
        self._latest = now + hard_seconds
        self._known_until = now + seconds
        try:
            async with asyncio.timeout(seconds) as self._timeout:
                yield
        finally:
            self._timeout = None

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Let no time pass while the block runs: a wait for Redis says nothing about the server."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        if self._timeout and not self._timeout.expired():
            self._timeout.reschedule(None)
        try:
            yield
        finally:
            seconds = loop.time() - began
            self._latest += seconds
            self._known_until += seconds
            self._unknown_until += seconds if self._unknown_until else 0.0
            self._reschedule()

    def extend(self, seconds: float, since: float) -> None:
        """Grant `seconds` from the time `since` of a step, if that is later than the deadline."""
        self._known_until = max(self._known_until, min(_loop_time(seconds, since), self._latest))
        self._reschedule()

    def extend_while_unknown(self, seconds: float, since: float) -> None:
        """Grant `seconds` from the time `since` of an unknown step, until there is a known one."""
        self._unknown_until = max(self._unknown_until, _loop_time(seconds, since))
        self._reschedule()

    def on_known_step(self, seconds: float, since: float) -> None:
        """Withdraw the time granted for unknown steps; if none is left then, grant `seconds` from the time `since`."""
        self._unknown_until = 0.0
        if self._known_until <= asyncio.get_running_loop().time():
            self._known_until = min(_loop_time(seconds, since), self._latest)
        self._reschedule()

    def _reschedule(self) -> None:
        if self._timeout and not self._timeout.expired():
            self._timeout.reschedule(max(self._known_until, min(self._unknown_until, self._latest)))


def _loop_time(seconds: float, since: float) -> float:
    """Return the event loop's time `seconds` after the wall-clock time `since`."""
    return asyncio.get_running_loop().time() + seconds - (clock.now() - since)
