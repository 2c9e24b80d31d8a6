"""The subscription connection of a process: the channels it receives, and the handlers of their messages."""

import asyncio
import contextlib
from collections.abc import Callable, Collection
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import PubSub

from services.common.redis.client import REDIS_UNAVAILABLE
from services.common.service.logging import get_logger
from services.common.service.tasks import sleep_unless_cancelled

log = get_logger(__name__)

OnMessage = Callable[[bytes], None]

_RECONNECT_SECONDS = 0.2


class Subscription:
    """One connection to Redis that is subscribed to every channel with a handler, and reconnects after each failure.

    Channels that match one of `patterns` need no subscription of their own: the connection receives all of them.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        idle_channel: str,
        patterns: Collection[bytes],
        wait_seconds: float,
        on_connect: Callable[[], None],
    ) -> None:
        self._redis = redis
        self._idle_channel = idle_channel
        self._patterns = patterns
        self._wait_seconds = wait_seconds
        self._on_connect = on_connect

        self._handlers: dict[bytes, OnMessage] = {}
        self._covered_channels: set[bytes] = set()
        """Channels with a handler that a pattern delivers."""
        self._confirmations: dict[bytes, asyncio.Event] = {}
        """Set once Redis has confirmed a channel or pattern."""
        self._pubsub: PubSub | None = None
        self._connected = asyncio.Event()

    async def add(self, channel: bytes, handler: OnMessage, *, pattern: bytes | None = None) -> None:
        """Handle a channel's messages, and wait a while for Redis to confirm the subscription to it.

        If Redis does not answer in time, the next connection subscribes. `pattern` is the one that covers the channel.
        """
        self._handlers[channel] = handler
        if pattern:
            self._covered_channels.add(channel)

        confirmed = self._confirmations.setdefault(pattern or channel, asyncio.Event())
        with contextlib.suppress(*REDIS_UNAVAILABLE):
            async with asyncio.timeout(self._wait_seconds):
                await self._connected.wait()
                if self._pubsub is not None and pattern is None:
                    await self._pubsub.subscribe(channel)
                await confirmed.wait()

    async def remove(self, channel: bytes) -> None:
        """Handle a channel's messages no longer."""
        self._handlers.pop(channel, None)
        self._confirmations.pop(channel, None)
        if channel in self._covered_channels:
            self._covered_channels.discard(channel)
            return

        if self._pubsub is not None and self._connected.is_set():
            with contextlib.suppress(*REDIS_UNAVAILABLE):
                await self._pubsub.unsubscribe(channel)

    async def run(self) -> None:
        """Hold the connection, and open another when it breaks, until cancelled."""
        while True:
            try:
                async with self._redis.pubsub() as pubsub:
                    await self._receive(pubsub)
            except REDIS_UNAVAILABLE as error:
                log.warning("redis_away", doing="subscribe", error=str(error))
            finally:
                self._on_disconnect()
            await sleep_unless_cancelled(_RECONNECT_SECONDS)

    async def _receive(self, pubsub: PubSub) -> None:
        self._pubsub = pubsub
        channels = [channel for channel in self._handlers if channel not in self._covered_channels]
        await pubsub.subscribe(self._idle_channel, *channels)
        if self._patterns:
            await pubsub.psubscribe(*self._patterns)

        self._connected.set()
        self._on_connect()
        while True:
            if message := await pubsub.get_message(timeout=self._wait_seconds):
                self._on_message(message)

    def _on_disconnect(self) -> None:
        self._connected.clear()
        self._pubsub = None
        for pattern in self._patterns:
            self._confirmations.setdefault(pattern, asyncio.Event()).clear()

    def _on_message(self, message: dict[str, Any]) -> None:
        channel = message["channel"]
        match message["type"]:
            case "message" | "pmessage":
                if handler := self._handlers.get(channel):
                    handler(message["data"])
            case "psubscribe":
                self._confirmations.setdefault(channel, asyncio.Event()).set()
            case "subscribe":
                if confirmed := self._confirmations.get(channel):
                    confirmed.set()
