"""Free ports for what a test starts: free a moment ago, which is enough on a machine of one's own."""

import errno
import random
import socket

from deploy.local.ports import CHOICE, HeldPort, Ports, is_free
from deploy.local.settings import Settings


def free_ports(count: int, avoid: set[int]) -> list[int]:
    """Choose `count` different ports of 127.0.0.1 that nobody listens on and that are not in `avoid`."""
    chosen: list[int] = []
    for port in random.sample(CHOICE, len(CHOICE)):
        if len(chosen) == count:
            return chosen
        if port not in avoid and is_free("127.0.0.1", port):
            chosen.append(port)
    raise OSError(errno.EADDRINUSE, f"no {count} free ports between {CHOICE.start} and {CHOICE.stop}")


def planned_ports(settings: Settings) -> Ports:
    """Return the ports of a stack that is not started: nobody holds them."""
    gateways = tuple(HeldPort(port, ()) for port in settings.ports)
    proxy, proxy_api, hub = (HeldPort(port, ()) for port in (20001, 20002, 20003))
    return Ports(gateways=gateways, proxy=proxy, proxy_api=proxy_api, hub=hub)


ADDRESSES = [
    (socket.AF_INET, "127.0.0.1"), (socket.AF_INET, ""), (socket.AF_INET6, "::1"), (socket.AF_INET6, "::"),
]  # fmt: skip
"""Wherever a client of localhost might end up."""


def steal(family: socket.AddressFamily, address: str, number: int, *, reuse: bool) -> int:
    """Listen there as another process would; return 0, or the number of the error."""
    with socket.socket(family) as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, reuse)
        try:
            thief.bind((address, number))
            thief.listen()
        except OSError as error:
            return error.errno or -1
    return 0
