"""The subscription connection of a process: the channels it receives, and the handlers of their messages.

A connection may break without a sign: its peer is gone, or is no longer the server that others publish to. Nothing
would arrive on it then, as if nothing happened. Therefore the process publishes heartbeats to a channel of its own,
over its other connections, and opens another subscription when they do not arrive.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Collection
from typing import Any

from prometheus_client import Counter
from redis.asyncio import Redis
from redis.asyncio.client import PubSub

from services.common.redis.client import REDIS_UNAVAILABLE
from services.common.redis.keys import Keys
from services.common.service.logging import get_logger
from services.common.service.loops import LOOP_FAILURES, run_forever
from services.common.service.tasks import Interrupted, run_until

log = get_logger(__name__)

RECONNECTS = Counter(
    "bindery_subscription_reconnects_total",
    "Subscriptions to Redis that were opened again because heartbeats did not arrive on them",
)

OnMessage = Callable[[bytes], None]

MISSES_MAX = 2
"""Heartbeats in a row that do not arrive before the connection counts as dead."""


class _Connection:
    """One connection, from before it is opened until it is closed."""

    def __init__(self, pubsub: PubSub) -> None:
        self.pubsub = pubsub
        self.is_alive = asyncio.Event()
        """Set by each heartbeat that arrives, and cleared before the next is sent."""
        self.is_silent = asyncio.Event()
        """Set once heartbeats no longer arrive."""


class Subscription:
    """One connection to Redis that is subscribed to every channel with a handler, and reconnects after each failure.

    Channels that match one of `patterns` need no subscription of their own: the connection receives all of them.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        publisher: Redis,
        keys: Keys,
        patterns: Collection[bytes],
        heartbeat_seconds: float,
        on_connect: Callable[[], None],
    ) -> None:
        self._redis = redis
        self._publisher = publisher
        self._patterns = patterns
        self._heartbeat_channel = keys.heartbeats(secrets.token_hex(8)).encode()
        self._heartbeat_seconds = heartbeat_seconds
        self._on_connect = on_connect

        self._handlers: dict[bytes, OnMessage] = {}
        self._covered_channels: set[bytes] = set()
        """Channels with a handler that a pattern delivers."""
        self._confirmations: dict[bytes, asyncio.Event] = {}
        """Set once Redis has confirmed a channel."""
        self._late_channels: set[bytes] = set()
        """Channels for whose confirmation nobody waits any more."""
        self._connection: _Connection | None = None
        self._connected = asyncio.Event()
        """Set while there is a connection on which Redis has confirmed every pattern, and the channels first sent."""

    async def add(self, channel: bytes, handler: OnMessage, *, is_covered: bool = False) -> None:
        """Handle a channel's messages, and wait for Redis to confirm the subscription to it.

        The wait is as long as it takes to notice that a connection is dead. What is sent before a later confirmation
        counts as lost: `on_connect` is called then. `is_covered` is for channels that a pattern delivers.
        """
        self._handlers[channel] = handler
        if is_covered:
            self._covered_channels.add(channel)

        try:
            async with asyncio.timeout(MISSES_MAX * self._heartbeat_seconds):
                await self._connected.wait()
                if not is_covered:
                    await self._subscribe(channel)
        except REDIS_UNAVAILABLE:  # the next connection subscribes to it, unless this one confirms it yet
            if channel in self._confirmations:
                self._late_channels.add(channel)

    async def _subscribe(self, channel: bytes) -> None:
        confirmed = self._confirmations.setdefault(channel, asyncio.Event())
        if self._connection and channel in self._handlers:  # it may have been removed meanwhile
            await self._connection.pubsub.subscribe(channel)
        await confirmed.wait()

    async def remove(self, channel: bytes) -> None:
        """Handle a channel's messages no longer."""
        self._handlers.pop(channel, None)
        if confirmed := self._confirmations.pop(channel, None):
            confirmed.set()
        self._late_channels.discard(channel)
        if channel in self._covered_channels:
            self._covered_channels.discard(channel)
            return

        if self._connection and self._connected.is_set():
            with contextlib.suppress(*REDIS_UNAVAILABLE):
                async with asyncio.timeout(self._heartbeat_seconds):
                    await self._connection.pubsub.unsubscribe(channel)

    async def run(self) -> None:
        """Hold the connection, and open another when it breaks or falls silent, until cancelled."""
        async with asyncio.TaskGroup() as group:
            receive = run_forever(self._receive, name="subscription", is_session=True, unavailable=REDIS_UNAVAILABLE)
            beat = run_forever(
                self._beat, name="heartbeat", wait=self._heartbeat_seconds, unavailable=REDIS_UNAVAILABLE
            )
            group.create_task(receive, name="bus-subscription")
            group.create_task(beat, name="bus-heartbeat")

    # Receiving

    async def _receive(self) -> None:
        """Open a connection, and handle its messages until it breaks or is silent."""
        connection = _Connection(self._redis.pubsub())
        self._connection = connection
        try:
            await run_until(connection.is_silent, self._handle_messages(connection))
        except Interrupted:
            RECONNECTS.inc()
            log.warning("subscription_silent", heartbeats=MISSES_MAX)
        finally:
            self._connected.clear()
            self._connection = None
            await _close(connection.pubsub)

    async def _handle_messages(self, connection: _Connection) -> None:
        pubsub = connection.pubsub
        if self._patterns:
            await pubsub.psubscribe(*self._patterns)
        # The last one: once it is confirmed, all are.
        await pubsub.subscribe(*self._unsent_channels(pubsub), self._heartbeat_channel)

        while True:
            if message := await pubsub.get_message(timeout=None):
                self._on_message(connection, message)
                if message["type"] == "subscribe" and message["channel"] == self._heartbeat_channel:
                    await self._subscribe_unsent(pubsub)

    def _unsent_channels(self, pubsub: PubSub) -> list[bytes]:
        """Return the channels to which a connection has not subscribed, as they were added after it did so."""
        return [
            channel
            for channel in self._handlers
            if channel not in self._covered_channels and channel not in pubsub.channels
        ]

    async def _subscribe_unsent(self, pubsub: PubSub) -> None:
        """Subscribe to the channels that were added while the connection was being opened: nobody may wait for them."""
        if channels := self._unsent_channels(pubsub):
            self._late_channels.update(channels)
            await pubsub.subscribe(*channels)

    def _on_message(self, connection: _Connection, message: dict[str, Any]) -> None:
        channel = message["channel"]
        match message["type"]:
            case "message" | "pmessage" if channel == self._heartbeat_channel:
                connection.is_alive.set()
            case "message" | "pmessage":
                self._handle(channel, message["data"])
            case "subscribe" if channel == self._heartbeat_channel:
                self._connected.set()
                self._late_channels.clear()
                self._on_connect()
            case "subscribe":
                self._on_confirmation(channel)

    def _handle(self, channel: bytes, content: bytes) -> None:
        handler = self._handlers.get(channel)
        if handler is None:
            return
        try:
            handler(content)
        except Exception as error:
            LOOP_FAILURES.labels("subscription").inc()
            log.exception("message_not_handled", channel=channel.decode(), error=str(error))

    def _on_confirmation(self, channel: bytes) -> None:
        if confirmed := self._confirmations.get(channel):
            confirmed.set()
        if channel in self._late_channels:
            self._late_channels.discard(channel)
            if not self._late_channels and self._connected.is_set():
                self._on_connect()

    # Proving that the connection lives

    async def _beat(self) -> None:
        """Send a heartbeat, and a second one if it does not arrive; if neither does, give the connection up.

        Raise one of `REDIS_UNAVAILABLE` if a heartbeat can't be sent: that says nothing about the subscription.
        """
        connection = self._connection
        if connection is None:
            return

        for _ in range(MISSES_MAX):
            connection.is_alive.clear()
            await self._publisher.publish(self._heartbeat_channel, "")
            try:
                async with asyncio.timeout(self._heartbeat_seconds):
                    await connection.is_alive.wait()
            except TimeoutError:
                continue
            return
        connection.is_silent.set()


async def _close(pubsub: PubSub) -> None:
    """Close a connection without waiting for its peer, which may be gone."""
    if pubsub.connection:
        await pubsub.connection.disconnect(nowait=True)
    await pubsub.aclose()
