"""The patience of one start: one budget of retries for all its calls to the hub, and one deadline that moves."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from services.common.models.errors import BinderyError
from services.common.service.logging import get_logger
from services.launcher.hub.client import HubUnavailable
from services.launcher.settings import LauncherSettings

log = get_logger(__name__)

T = TypeVar("T")
PAUSE_MAX_SECONDS = 5.0

Tell = Callable[[str], Awaitable[None]]
"""Tells a sentence to whoever follows the start."""


class RetryBudget:
    """How often the hub may fail a start, and how long. A hub that is busy is well: it costs time, and no retry."""

    def __init__(self, settings: LauncherSettings, tell: Tell) -> None:
        self._settings, self._tell = settings, tell
        self._retries = settings.hub_retries_max
        self._seconds = settings.hub_patience_seconds
        self._told = ""
        self.busy = ""
        """What the hub says that has too much to do for this start, while it says so."""
        self.away: BinderyError | None = None
        """What a start fails with whose time is up before it has gone on."""

    async def call(self, doing: str, call: Callable[[], Awaitable[T]]) -> T:
        """`await call()`, again while the hub is away; each new failure is told, with its cause.

        Raises `BinderyError("hub_unavailable")` when the budget is spent.
        """
        loop = asyncio.get_running_loop()
        pause = self._settings.retry_pause_seconds
        while True:
            began = loop.time()
            try:
                found = await call()
            except HubUnavailable as error:
                self.busy = str(error) if error.is_busy else ""
                wait = error.retry_after_seconds or pause * random.uniform(0.7, 1.3)  # noqa: S311
                if error.is_busy:
                    most = self._settings.hub_busy_pause_max_seconds
                    wait = min(wait, most) * random.uniform(0.7, 1.0)  # noqa: S311
                else:
                    wait = min(wait, self._settings.hub_patience_seconds)
                    silent = loop.time() - began if error.silent_seconds is None else error.silent_seconds
                    self._spend(doing, error, silent + wait)
                await self._tell_once(doing, error)
            else:
                self.busy = ""
                return found
            await asyncio.sleep(wait)
            pause = min(PAUSE_MAX_SECONDS, pause * 2)

    async def failed(self, doing: str, error: HubUnavailable) -> None:
        """The hub has failed the start although it answered; `doing` is what is done again.

        Raises `BinderyError("hub_unavailable")` when the budget is spent.
        """
        self._spend(doing, error, 0.0)
        await self._tell_once(doing, error)

    def heard(self) -> None:
        """The start goes on: the hub is there."""
        self._told, self.away = "", None

    async def _tell_once(self, doing: str, error: HubUnavailable) -> None:
        if self._told != (told := f"{doing}: {'' if error.is_busy else error}"):
            self._told = told
            log.warning("hub_away", doing=doing, error=str(error), is_busy=error.is_busy)
            await self._tell(f"JupyterHub could not {doing} yet ({error}); asking again.")

    def _spend(self, doing: str, error: HubUnavailable, seconds: float) -> None:
        self._retries -= 1
        self._seconds -= seconds
        self.away = BinderyError("hub_unavailable", f"JupyterHub could not {doing}: {error}.")
        if self._retries < 0 or self._seconds < 0:
            raise self.away from error


class Deadline:
    """When a start must have come up. What it gets by its progress never goes beyond the hard maximum.

    A start that tells nothing which is understood may be well: it is lent time, until it tells something.
    """

    def __init__(self, *, hard_seconds: float) -> None:
        self._hard = asyncio.get_running_loop().time() + hard_seconds
        self._timeout: asyncio.Timeout | None = None
        self._earned = self._lent = 0.0

    @contextlib.asynccontextmanager
    async def within(self, seconds: float) -> AsyncIterator[None]:
        """Raise `TimeoutError` when the block takes longer than `seconds`, and whatever it was extended by."""
        self._earned = asyncio.get_running_loop().time() + seconds
        async with asyncio.timeout(seconds) as self._timeout:
            yield

    def extend(self, seconds: float, since: float) -> None:
        """It made progress at the time `since`: it has `seconds` from then, if that is more than it has."""
        self._earned = max(self._earned, min(_until(seconds, since), self._hard))
        self._reschedule()

    def lend(self, seconds: float, since: float) -> None:
        """It has `seconds` from the time `since`, unless that is taken back."""
        self._lent = max(self._lent, _until(seconds, since))
        self._reschedule()

    def take_back(self, seconds: float, since: float) -> None:
        """Leave it what it has earned; where that is over, `seconds` from the time `since`."""
        self._lent = 0.0
        if self._earned <= asyncio.get_running_loop().time():
            self._earned = min(_until(seconds, since), self._hard)
        self._reschedule()

    def _reschedule(self) -> None:
        if self._timeout:
            self._timeout.reschedule(max(self._earned, min(self._lent, self._hard)))


def _until(seconds: float, since: float) -> float:
    return asyncio.get_running_loop().time() + seconds - (time.time() - since)
