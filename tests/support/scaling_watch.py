"""What the queue is, what Prometheus says of it, and the number of workers that KEDA would make of that."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from tests.support.helm_release import HelmRelease
from tests.support.keda import Scaling
from tests.support.polling import eventually
from tests.support.prometheus import Prometheus

LOOK_SECONDS = 0.25
ROW_SECONDS = 2.0
WAIT_SECONDS = 120.0
STALE_SECONDS = 15.0
"""How long there may be no fresh value: on a busy machine some scrapes in a row don't end within their interval."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """What there is at one moment."""

    seconds: float
    """Since the first look."""
    waiting: int
    running: int
    value: float | None
    """What the query of the ScaledObject gives; None if that is not fresh."""
    workers: int
    """How many there should be."""
    alive: int
    """How many the builder's API knows."""


class ScalingWatch:
    """Looks again and again, holds what Prometheus says against the queue, and sets the number of workers.

    Each look fails if what the query gives is not what the builder's API has said of the queue at some moment since
    the oldest sample that the query reads. This is exact as long as builds only come, or only go: between two answers
    of the API there was nothing then that is not between their numbers. A value with a sample that is too old counts as
    none, and none for `STALE_SECONDS` is a failure.
    """

    def __init__(
        self, *, release: HelmRelease, builder: httpx.Client, prometheus: Prometheus, scaling: Scaling
    ) -> None:
        self._release = release
        self.builder = builder
        self._prometheus = prometheus
        self._scaling = scaling
        self._gateways = [pod["status"]["podIP"] for pod in release.pods("gateway")]
        interval = release.values["monitoring"]["podMonitor"]["interval"]
        self._interval_seconds = float(interval.removesuffix("s"))

        self.is_scaling = False
        self.looks: list[Look] = []
        self.steps: list[int] = []
        """Each number of workers that was set."""
        self._workers = int(release.kubectl("get", "deployment", scaling.target, "-o", "jsonpath={.spec.replicas}"))
        self._totals: list[tuple[float, int]] = []
        """How many builds waited or ran, with the time of the answer."""
        self._began_at = time.monotonic()
        self._last_active_at = -math.inf
        self._look_at = self._ask_at = 0.0
        self._stale_at = math.inf

    def until(self, condition: Callable[[Look], bool], description: str) -> None:
        """Look until a look is as it should be."""
        try:
            eventually(lambda: condition(self.look()), description, WAIT_SECONDS)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.table()}\n{self._release.state()}") from error

    def look(self) -> Look:
        """Look, unless the last look was a moment ago."""
        now = time.monotonic()
        if self.looks and now < self._look_at:
            return self.looks[-1]
        self._look_at = now + LOOK_SECONDS

        self._queue()
        asked_at = time.time()
        # The time of the samples first: the value may then be of newer ones, never of older.
        scraped_at = min((sample.value for sample in self._samples("timestamp", asked_at)), default=0)
        value = self._prometheus.value(self._scaling.query, asked_at)
        queue = self._queue()
        if asked_at - scraped_at >= 2 * self._interval_seconds:
            value = None
        if value is None:
            self._check_staleness(now)
        else:
            self._stale_at = math.inf
            self._compare(value, scraped_at=scraped_at)
            self._scale(value)
        for address in self._gateways:
            assert httpx.get(f"http://{address}:8080/readyz", trust_env=False).status_code == 200

        look = Look(
            seconds=now - self._began_at, waiting=queue["depth"], running=queue["running"], value=value,
            workers=self._workers, alive=len(queue["workers"]),
        )  # fmt: skip
        self.looks.append(look)
        return look

    def told_by(self) -> set[str]:
        """Return the pods whose answers the query reads."""
        return {sample.labels["pod"] for sample in self._samples("timestamp", time.time())}

    def _samples(self, function: str, at: float) -> list[Any]:
        return self._prometheus.samples(
            f'{function}(bindery_builds_waiting{{namespace="{self._release.namespace}"}})', at
        )

    def _queue(self) -> dict[str, Any]:
        reply = self.builder.get("/queue")
        assert reply.status_code == 200, reply.text
        queue: dict[str, Any] = reply.json()
        self._totals.append((time.time(), queue["depth"] + queue["running"]))
        return queue

    def _check_staleness(self, now: float) -> None:
        self._stale_at = min(self._stale_at, now)
        was_known = any(look.value is not None for look in self.looks)
        assert not was_known or now - self._stale_at < STALE_SECONDS, f"no fresh number for {STALE_SECONDS} s"

    def _compare(self, value: float, *, scraped_at: float) -> None:
        first = max((number for number, (at, _) in enumerate(self._totals) if at <= scraped_at), default=0)
        totals = [total for _, total in self._totals[first:]]
        assert min(totals) <= value <= max(totals), f"Prometheus says {value}; since its samples there were {totals}"

    def _scale(self, value: float) -> None:
        """Set the number of workers as KEDA would, as often as it would."""
        now = time.monotonic()
        if not self.is_scaling or now < self._ask_at:
            return
        self._ask_at = now + self._scaling.polling_seconds
        if value > self._scaling.activation:
            self._last_active_at = now
        wanted = self._scaling.replicas(value, self._workers, idle_seconds=now - self._last_active_at)
        if wanted != self._workers:
            self._release.kubectl("scale", "deployment", self._scaling.target, f"--replicas={wanted}")
            self._workers = wanted
            self.steps.append(wanted)

    def table(self) -> str:
        """Return a row for each change of the number of workers, and for each few seconds in between."""
        rows = [f"{'s':>6}  {'waiting':>7}  {'running':>7}  {'query':>5}  {'workers':>7}  {'alive':>5}"]
        row_at, before = -math.inf, None
        for look in self.looks:
            after = (look.workers, look.alive)
            if look.seconds < row_at and after == before:
                continue
            row_at, before = look.seconds + ROW_SECONDS, after
            value = "-" if look.value is None else f"{look.value:g}"
            rows.append(
                f"{look.seconds:6.1f}  {look.waiting:7}  {look.running:7}  {value:>5}  {look.workers:7}  {look.alive:5}"
            )
        return "\n".join(rows)
