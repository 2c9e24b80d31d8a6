"""Connections to addresses that the network policy allows, and only to the one that was checked."""

import asyncio
from collections.abc import Iterable

import httpcore

from services.common.net.networks import NetworkPolicy


class CheckedNetwork(httpcore.AsyncNetworkBackend):
    """Looks a host up, checks its addresses, and connects to one of those."""

    def __init__(self, policy: NetworkPolicy) -> None:
        self._policy = policy
        self._sockets = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """See `httpcore`. Raise `BinderyError` as `NetworkPolicy.addresses` does."""
        try:
            async with asyncio.timeout(timeout):
                addresses = await self._policy.addresses(host, port)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(f"looking up {host}") from error
        for address in addresses[:-1]:
            try:
                return await self._sockets.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return await self._sockets.connect_tcp(addresses[-1], port, timeout, local_address, socket_options)

    async def sleep(self, seconds: float) -> None:
        """See `httpcore`."""
        await asyncio.sleep(seconds)
