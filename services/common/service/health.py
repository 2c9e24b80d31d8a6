"""Whether this process can do its work: background checks find out, `/health` and `/metrics` only read."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from services.common.service.logging import get_logger
from services.common.service.tasks import sleep_unless_cancelled

log = get_logger(__name__)

_RENDERED_SECONDS = 1.0


@dataclass(frozen=True)
class CheckFailure:
    """What a check found: `detail` is for operators (their log, and who has the service token), `shown` for anybody."""

    detail: str
    shown: str = "It does not work as it should; the log of this service says more."


Check = Callable[[], Awaitable[CheckFailure | str | None]]
"""Returns None when all is well, else what is wrong: a `Trouble`, or only its detail. An exception is one too."""

_NOT_CHECKED = CheckFailure("not checked yet", "not checked yet")


@dataclass
class Health:
    """The last result of each named check; unhealthy until every check has passed once.

    Addresses, names and what other programs say stand in the details alone.
    """

    interval_seconds: float = 2.0
    timeout_seconds: float = 3.0
    stale_seconds: float = 15.0
    _checks: dict[str, Check] = field(default_factory=dict)
    _found: dict[str, tuple[float, CheckFailure | None]] = field(default_factory=dict)
    _rendered: dict[bool, tuple[float, bool, bytes]] = field(default_factory=dict)

    def add(self, name: str, check: Check) -> None:
        self._checks[name] = check

    def report(self, *, in_detail: bool = False) -> tuple[bool, list[dict[str, object]]]:
        """(all well, [{"service", "ok", "message"?}]) in the shape of BinderHub's `/health`."""
        rows: list[dict[str, object]] = []
        for name in self._checks:
            at, trouble = self._found.get(name, (0.0, _NOT_CHECKED))
            if trouble is None and time.monotonic() - at > self.stale_seconds:
                stale = f"not checked for {self.stale_seconds:.0f} s"
                trouble = CheckFailure(stale, stale)
            row: dict[str, object] = {"service": name, "ok": trouble is None}
            rows.append(row | ({"message": trouble.detail if in_detail else trouble.shown} if trouble else {}))
        return all(bool(row["ok"]) for row in rows), rows

    def rendered(self, *, in_detail: bool = False) -> tuple[bool, bytes]:
        """The report as JSON, made once a second at most, and whenever a check has found something else."""
        made, ok, body = self._rendered.get(in_detail, (0.0, False, b""))
        now = time.monotonic()
        if now - made > _RENDERED_SECONDS:
            ok, checks = self.report(in_detail=in_detail)
            body = json.dumps({"ok": ok, "checks": checks}).encode()
            self._rendered[in_detail] = now, ok, body
        return ok, body

    async def check_now(self) -> None:
        """Run every check once, at the same time."""
        await asyncio.gather(*(self._one(name, check) for name, check in self._checks.items()))

    async def _one(self, name: str, check: Check) -> None:
        before = self._found.get(name, (0.0, _NOT_CHECKED))[1]
        try:
            async with asyncio.timeout(self.timeout_seconds):
                found = await check()
            trouble = CheckFailure(found) if isinstance(found, str) else found
        except Exception as error:  # noqa: BLE001 - a check that fails in any way is a finding
            trouble = CheckFailure(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
        self._found[name] = (time.monotonic(), trouble)
        if trouble != before:
            self._rendered.clear()
            tell = log.warning if trouble else log.info
            tell("health_changed", check=name, trouble=trouble.detail if trouble else None)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Check in the background: every 100 ms until all is well, then every `interval_seconds`."""

        async def loop() -> None:
            while True:
                await self.check_now()
                await sleep_unless_cancelled(
                    self.interval_seconds if self.report()[0] else min(0.1, self.interval_seconds)
                )

        async with asyncio.TaskGroup() as group:
            task = group.create_task(loop(), name="health")
            try:
                yield
            finally:
                task.cancel()
