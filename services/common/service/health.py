"""Health of this process: background checks determine it, and `/health` only reads their last results."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import NotRequired, TypedDict

from services.common.service.logging import get_logger
from services.common.service.loops import background_state, background_tasks, run_forever
from services.common.service.tasks import sleep_unless_cancelled

log = get_logger(__name__)

_RENDERED_SECONDS = 1.0


@dataclass(frozen=True)
class CheckFailure:
    """Why a check failed: `detail` for the log and for holders of the service token, `shown` for everyone.

    `is_warning`: the service does its work, and will not for long, or not all of it. That makes nobody restart it.
    """

    detail: str
    shown: str = "It does not work as it should; the log of this service says more."
    is_warning: bool = False


class HealthRow(TypedDict):
    """The result of one check, in the shape of BinderHub's `/health`. One that is `ok` with a message is a warning."""

    service: str
    ok: bool
    message: NotRequired[str]


Check = Callable[[], Awaitable[CheckFailure | str | None]]
"""Returns None if all is well, else a `CheckFailure` or only its detail. An exception is a failure too."""

NOT_STARTED = "It has not started yet; the log of this service says why."
_ENDED = "A part of this process has ended, so the process ends too; its log says why."
_NOT_CHECKED = CheckFailure("not checked yet", "not checked yet")


@dataclass
class Health:
    """The last result of each named check; the process is unhealthy until every check has passed once.

    Addresses, names and messages of other programs appear in the details only.
    """

    interval_seconds: float = 2.0
    timeout_seconds: float = 3.0
    stale_seconds: float = 15.0
    _checks: dict[str, Check] = field(default_factory=dict, init=False)
    _results: dict[str, tuple[float, CheckFailure | None]] = field(default_factory=dict, init=False)
    _rendered: dict[bool, tuple[float, bool, bytes]] = field(default_factory=dict, init=False)

    def add(self, name: str, check: Check) -> None:
        """Register a check; its name appears in `/health`."""
        self._checks[name] = check

    def report(self, *, in_detail: bool = False) -> tuple[bool, list[HealthRow]]:
        """Return whether all is well, and a row for each check."""
        background = background_state()
        if background.start_problem:
            message = background.start_problem if in_detail else NOT_STARTED
            return False, [{"service": "Start", "ok": False, "message": message}]

        rows: list[HealthRow] = []
        for name in self._checks:
            checked_at, failure = self._results.get(name, (0.0, _NOT_CHECKED))
            if failure is None and time.monotonic() - checked_at > self.stale_seconds:
                stale = f"not checked for {self.stale_seconds:.0f} s"
                failure = CheckFailure(stale, stale)

            row: HealthRow = {"service": name, "ok": failure is None or failure.is_warning}
            if failure:
                row["message"] = failure.detail if in_detail else failure.shown
            rows.append(row)

        if background.ended.is_set():
            rows.append({"service": "Background work", "ok": False, "message": _ENDED})
        return all(row["ok"] for row in rows), rows

    def rendered(self, *, in_detail: bool = False) -> tuple[bool, bytes]:
        """Return whether all is well, and the report as JSON, which is cached for a second unless a result changes."""
        rendered_at, ok, body = self._rendered.get(in_detail, (0.0, False, b""))
        now = time.monotonic()
        background = background_state()
        is_passing = bool(background.start_problem) or background.ended.is_set()  # and so not to be cached
        if is_passing or now - rendered_at > _RENDERED_SECONDS:
            ok, checks = self.report(in_detail=in_detail)
            body = json.dumps({"ok": ok, "checks": checks}).encode()
            if not is_passing:
                self._rendered[in_detail] = now, ok, body
        return ok, body

    async def check_now(self) -> None:
        """Run every check once, all concurrently."""
        await asyncio.gather(*(self._run(name, check) for name, check in self._checks.items()))

    async def _run(self, name: str, check: Check) -> None:
        _, previous = self._results.get(name, (0.0, _NOT_CHECKED))
        try:
            async with asyncio.timeout(self.timeout_seconds):
                result = await check()
            failure = CheckFailure(result) if isinstance(result, str) else result
        except Exception as error:  # noqa: BLE001 - a check that raises anything at all has failed
            kind = type(error).__name__
            failure = CheckFailure(f"{kind}: {error}" if str(error) else kind)

        self._results[name] = (time.monotonic(), failure)
        if failure != previous:
            self._rendered.clear()
            write = log.warning if failure else log.info
            write("health_changed", check=name, trouble=failure.detail if failure else None)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the checks in the background: every 100 ms until all is well, then every `interval_seconds`."""
        async with background_tasks(run_forever(self.check_now, name="health", wait=self._wait, at_once=True)):
            yield

    async def _wait(self) -> None:
        all_well, _ = self.report()
        await sleep_unless_cancelled(self.interval_seconds if all_well else min(0.1, self.interval_seconds))
