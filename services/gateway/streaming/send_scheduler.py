"""The clock of all streams of a process: when each may send, which have been silent, which client takes nothing."""

import asyncio

from prometheus_client import Gauge

from services.gateway.settings import GatewaySettings

FOLLOWERS = Gauge("bindery_stream_followers", "Clients that follow a stream")

PER_CLIENT_TICK_MAX = 100
"""Up to so many clients each has a tick of its own; more than that share one."""
LONGEST_TICK_FROM = 2000
"""From so many clients on the tick is at its longest."""
BURST = 8
"""So many chunks go to a client without a tick between them, where there are few: a quick launch is not held up."""
_WAKE_AT_ONCE = 200
_TICK_BUSY_SECONDS = 1.0
_LOOK_SECONDS = 0.5


class Subscriber:
    """One connection: whether there is more for it, and when it last got something."""

    def __init__(self, scheduler: "SendScheduler", task: "asyncio.Task[object] | None") -> None:
        self._scheduler, self._task = scheduler, task
        self._loop = asyncio.get_running_loop()
        self._waiting: asyncio.Future[None] | None = None
        self._is_due = False
        self.has_news = True
        self.is_gone = False
        self.is_too_slow = False
        self.sent_at = self._loop.time()
        self.sending_since = 0.0
        self.burst_credit = float(BURST)

    def news(self) -> None:
        """There is more: it goes out at the client's next tick."""
        if not self.has_news:
            self.has_news = True
            if self._waiting is not None:
                self._plan()

    def leave(self) -> None:
        """The client has gone."""
        self.is_gone = True
        self.resume()

    async def wait(self) -> None:
        """Wait for the tick after more has come; or until the client was silent for long, has gone, or must go."""
        if self.is_gone:
            return
        self._waiting = self._loop.create_future()
        if self.has_news:
            self._plan()
        try:
            await self._waiting
        finally:
            self._waiting, self._is_due = None, False

    def _plan(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._scheduler.schedule(self)

    def resume(self) -> None:
        """End the wait."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    @property
    def silent_seconds(self) -> float:
        """How long ago the last chunk was sent."""
        return self._loop.time() - self.sent_at

    def sending(self) -> None:
        """A chunk is on its way out."""
        self.sending_since = self._loop.time()

    def sent(self) -> None:
        """It went out: the time until the next one begins."""
        now = self._loop.time()
        self.burst_credit = min(float(BURST), self.burst_credit + (now - self.sent_at) / self._scheduler.tick) - 1
        self.sent_at, self.sending_since = now, 0.0

    def give_up(self) -> None:
        """The client has taken nothing for too long: end its request, whatever that waits for."""
        self.is_too_slow = True
        if self._task is not None:
            self._task.cancel()


class SendScheduler:
    """The tick of one process: short with few clients, longer with thousands."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._least, self._most = settings.tick_seconds, settings.tick_max_seconds
        self._keepalive_seconds, self._send_seconds = settings.keepalive_seconds, settings.send_timeout_seconds
        self.draining = asyncio.Event()
        self._clients: set[Subscriber] = set()
        self._due: list[Subscriber] = []
        self._ticked_at = 0.0
        self._round_seconds = 0.0
        """How long it took to serve all who were due at the last shared tick."""
        self._looking = False

    @property
    def tick(self) -> float:
        """Seconds between two chunks: `tick_seconds` up to 100 clients, `tick_max_seconds` from 2,000 on.

        Longer on a machine that can't keep up: a third of the time is left for everything but sending.
        """
        share = min(
            1.0, max(0.0, (len(self._clients) - PER_CLIENT_TICK_MAX) / (LONGEST_TICK_FROM - PER_CLIENT_TICK_MAX))
        )
        return max(self._least + (self._most - self._least) * share, min(_TICK_BUSY_SECONDS, 1.5 * self._round_seconds))

    @property
    def is_draining(self) -> bool:
        """This process ends."""
        return self.draining.is_set()

    def add(self, task: "asyncio.Task[object] | None") -> Subscriber:
        """A client that follows from now on; `task` is what serves it."""
        client = Subscriber(self, task)
        self._clients.add(client)
        FOLLOWERS.inc()
        if not self._looking:
            self._looking = True
            asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look, asyncio.get_running_loop())
        return client

    def remove(self, client: Subscriber) -> None:
        """The client is served no more."""
        self._clients.discard(client)
        FOLLOWERS.dec()

    def drain(self) -> None:
        """This process ends: streams that can be resumed elsewhere end now."""
        self.draining.set()
        for client in self._clients:
            client.resume()

    def schedule(self, client: Subscriber) -> None:
        """Resume a client at its next tick."""
        if len(self._clients) <= PER_CLIENT_TICK_MAX:
            early = self.tick - client.silent_seconds
            if client.burst_credit >= 1 or early <= 0:
                client.resume()
            else:
                asyncio.get_running_loop().call_later(early, client.resume)
            return
        self._due.append(client)
        if len(self._due) == 1:
            loop = asyncio.get_running_loop()
            loop.call_at(max(loop.time(), self._ticked_at + self.tick), self._ticked, loop)

    def _ticked(self, loop: asyncio.AbstractEventLoop) -> None:
        due, self._due = self._due, []
        self._ticked_at = loop.time()
        self._wake(due, 0, loop)

    def _wake(self, due: list[Subscriber], start: int, loop: asyncio.AbstractEventLoop) -> None:
        """Resume some and come back for the others: in between, the loop sees to everything else."""
        for client in due[start : start + _WAKE_AT_ONCE]:
            client.resume()
        if start + _WAKE_AT_ONCE < len(due):
            loop.call_soon(self._wake, due, start + _WAKE_AT_ONCE, loop)
        else:
            loop.call_soon(self._served, loop)

    def _served(self, loop: asyncio.AbstractEventLoop) -> None:
        self._round_seconds = loop.time() - self._ticked_at

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look for the silent, who are sent a keepalive, and for those who take nothing."""
        now = loop.time()
        for client in self._clients:
            if client.sending_since:
                if not client.is_too_slow and now - client.sending_since > self._send_seconds:
                    client.give_up()
            elif now - client.sent_at >= self._keepalive_seconds:
                client.resume()
        self._looking = bool(self._clients)
        if self._looking:
            loop.call_later(_LOOK_SECONDS, self._look, loop)
