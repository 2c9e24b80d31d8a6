"""The schedule of all sends of a process: when each client is due, which needs a keepalive, which reads nothing.

With thousands of followers, sends are expensive, not events. So each client gets one send per tick, with everything new
since the last one; with many clients the ticks are shared and grow longer. `make load` measures the cost of a tick.
"""

import asyncio

from prometheus_client import Gauge

from services.common.service.loops import run_forever
from services.gateway.settings import GatewaySettings

FOLLOWERS = Gauge("bindery_stream_followers", "Clients that follow a stream")

PER_CLIENT_TICK_MAX = 100
"""Up to this number of clients each has a tick of its own; more than that share one."""
LONGEST_TICK_FROM = 2000
"""From this number of clients on, the tick has its full length."""
BURST = 8
"""Sends that a client may get without a tick between them, with few clients, so that a quick launch is not delayed."""
_WAKE_AT_ONCE = 200
_TICK_BUSY_SECONDS = 1.0
"""The longest tick of a busy process."""
_CHECK_SECONDS = 0.5


class Subscriber:
    """One client: the listener of its stream, whether it is due, and the time of its last send."""

    def __init__(self, scheduler: "SendScheduler", task: "asyncio.Task[object] | None") -> None:
        self._scheduler = scheduler
        self._task = task
        self._loop = asyncio.get_running_loop()
        self._wakeup: asyncio.Future[None] | None = None
        self._is_scheduled = False

        self.has_news = True
        self.has_left = False
        self.is_too_slow = False
        self.sent_at = self._loop.time()
        self.sending_since = 0.0
        """Time at which the send in progress began; 0 if none is."""
        self.burst_credit = float(BURST)
        """Sends that may go out without a tick."""

    def notify(self) -> None:
        """Schedule a send at the client's next tick, as its stream has more."""
        if not self.has_news:
            self.has_news = True
            if self._wakeup is not None:
                self._schedule()

    async def wait(self) -> None:
        """Wait for the tick after news, or until the client needs a keepalive, has left, or must end."""
        if self.has_left:
            return

        self._wakeup = self._loop.create_future()
        if self.has_news:
            self._schedule()
        try:
            await self._wakeup
        finally:
            self._wakeup = None
            self._is_scheduled = False

    def wake(self) -> None:
        """End the wait."""
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)

    def leave(self) -> None:
        """Record that the client has closed the connection."""
        self.has_left = True
        self.wake()

    def abort(self) -> None:
        """End the request of a client that reads nothing, whatever the request waits for."""
        self.is_too_slow = True
        if self._task is not None:
            self._task.cancel()

    @property
    def silent_seconds(self) -> float:
        """Time since the last send."""
        return self._loop.time() - self.sent_at

    def on_send_start(self) -> None:
        """Record that a send begins."""
        self.sending_since = self._loop.time()

    def on_send_end(self) -> None:
        """Record the end of a send, which uses one credit; the time since the last send earns some."""
        now = self._loop.time()
        new_credit = (now - self.sent_at) / self._scheduler.tick
        self.burst_credit = min(float(BURST), self.burst_credit + new_credit) - 1
        self.sent_at = now
        self.sending_since = 0.0

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._scheduler.schedule(self)


class SendScheduler:
    """Wakes the clients of one process at their ticks: short ones with few clients, longer ones with thousands."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._shortest_tick = settings.tick_seconds
        self._longest_tick = settings.tick_max_seconds
        self._keepalive_seconds = settings.keepalive_seconds
        self._send_timeout_seconds = settings.send_timeout_seconds

        self.draining = asyncio.Event()
        """Set once this process is told to stop."""
        self._subscribers: set[Subscriber] = set()
        self._due: list[Subscriber] = []
        """The clients that the next shared tick wakes."""
        self._ticked_at = 0.0
        self._round_seconds = 0.0
        """How long it took to serve everyone who was due at the last shared tick."""

    @property
    def tick(self) -> float:
        """Seconds between two sends: `tick_seconds` up to 100 clients, `tick_max_seconds` from 2,000 on.

        Longer on a machine that cannot keep up: a third of the time is left for everything but sending.
        """
        share = (len(self._subscribers) - PER_CLIENT_TICK_MAX) / (LONGEST_TICK_FROM - PER_CLIENT_TICK_MAX)
        share = min(1.0, max(0.0, share))
        by_count = self._shortest_tick + (self._longest_tick - self._shortest_tick) * share
        by_load = min(_TICK_BUSY_SECONDS, 1.5 * self._round_seconds)
        return max(by_count, by_load)

    @property
    def is_draining(self) -> bool:
        """Whether this process is told to stop."""
        return self.draining.is_set()

    async def run(self) -> None:
        """Wake silent clients for a keepalive, and end the requests of those that read nothing, until cancelled."""
        await run_forever(self._check, name="send_scheduler", wait=_CHECK_SECONDS)

    def add(self, task: "asyncio.Task[object] | None") -> Subscriber:
        """Return a new client, which `task` serves."""
        subscriber = Subscriber(self, task)
        self._subscribers.add(subscriber)
        FOLLOWERS.inc()
        return subscriber

    def remove(self, subscriber: Subscriber) -> None:
        """Forget a client whose response has ended."""
        self._subscribers.discard(subscriber)
        FOLLOWERS.dec()

    def drain(self) -> None:
        """Wake every client, so that a stream which can be resumed elsewhere ends now."""
        self.draining.set()
        for subscriber in self._subscribers:
            subscriber.wake()

    def schedule(self, subscriber: Subscriber) -> None:
        """Wake a client at its next tick: its own with few clients, else the shared one."""
        loop = asyncio.get_running_loop()
        if len(self._subscribers) <= PER_CLIENT_TICK_MAX:
            early_seconds = self.tick - subscriber.silent_seconds
            if subscriber.burst_credit >= 1 or early_seconds <= 0:
                subscriber.wake()
            else:
                loop.call_later(early_seconds, subscriber.wake)
            return

        self._due.append(subscriber)
        if len(self._due) == 1:
            loop.call_at(max(loop.time(), self._ticked_at + self.tick), self._on_tick, loop)

    def _on_tick(self, loop: asyncio.AbstractEventLoop) -> None:
        due = self._due
        self._due = []
        self._ticked_at = loop.time()
        self._wake_batch(due, 0, loop)

    def _wake_batch(self, due: list[Subscriber], start: int, loop: asyncio.AbstractEventLoop) -> None:
        """Wake the batch of clients from `start` on now, and the rest in later turns of the loop."""
        end = start + _WAKE_AT_ONCE
        for subscriber in due[start:end]:
            subscriber.wake()
        if end < len(due):
            loop.call_soon(self._wake_batch, due, end, loop)
        else:
            loop.call_soon(self._on_round_end, loop)

    def _on_round_end(self, loop: asyncio.AbstractEventLoop) -> None:
        self._round_seconds = loop.time() - self._ticked_at

    async def _check(self) -> None:
        now = asyncio.get_running_loop().time()
        for subscriber in self._subscribers:
            if subscriber.sending_since:
                if not subscriber.is_too_slow and now - subscriber.sending_since > self._send_timeout_seconds:
                    subscriber.abort()
            elif now - subscriber.sent_at >= self._keepalive_seconds:
                subscriber.wake()
