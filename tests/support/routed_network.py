"""A client, a router and a server in network namespaces of their own: nothing of this machine's own network is touched.

The router forwards between the client's network and its interface `eth0`, behind which is the server.
"""

import contextlib
import ctypes
import os
import socket
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from uuid import uuid4

Part = Literal["client", "router", "server"]

CLIENT = "172.17.0.2"
"""The client's address, as a container has it."""
SERVER = "203.0.113.80"
"""The server's first address, which is none of a private network."""
TIMEOUT_SECONDS = 5.0
"""How long a socket waits for a packet: those that come are there at once."""

_CLIENT_SIDE = "172.17.0.1"
_SERVER_SIDE = "203.0.113.1"
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class RoutedNetwork:
    """The three namespaces, by the word that their names begin with."""

    name: str

    def run(self, part: Part, *command: str) -> str:
        """Run a command in a part's namespace, and return what it prints."""
        inside = ("nsenter", f"--net=/run/netns/{self.name}-{part}", *command)
        return subprocess.run(inside, capture_output=True, text=True, check=True).stdout

    def socket_in(self, part: Part, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
        """Return a socket in a part's namespace, where it stays."""
        with self._inside(part):
            made = socket.socket(socket.AF_INET, kind)
        made.settimeout(TIMEOUT_SECONDS)
        return made

    @contextlib.contextmanager
    def listening(self, part: Part, address: str, port: int) -> Iterator[socket.socket]:
        """Let connections to a part's address be made for the length of the block, whether or not they are accepted."""
        with self.socket_in(part) as listener:
            listener.bind((address, port))
            listener.listen()
            yield listener

    @contextlib.contextmanager
    def _inside(self, part: Part) -> Iterator[None]:
        """Let this thread make its sockets in a part's namespace for the length of the block."""
        with (
            Path("/proc/thread-self/ns/net").open("rb") as own,
            Path(f"/run/netns/{self.name}-{part}").open("rb") as its,
        ):
            _enter(its.fileno())
            try:
                yield
            finally:
                _enter(own.fileno())


def _enter(namespace: int) -> None:
    if _libc.setns(namespace, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@contextlib.contextmanager
def routed_network(addresses: Sequence[str]) -> Iterator[RoutedNetwork]:
    """Keep the namespaces up for a block, the server with these addresses, too. It needs root and iproute2."""
    network = RoutedNetwork(f"bindery-{uuid4().hex[:8]}")
    client, router, server = (f"{network.name}-{part}" for part in ("client", "router", "server"))
    with contextlib.ExitStack() as stack:
        for namespace in (client, router, server):
            _ip("netns", "add", namespace)
            stack.callback(_ip, "netns", "delete", namespace)
        _cable((client, "eth0", f"{CLIENT}/16"), (router, "docker0", f"{_CLIENT_SIDE}/16"))
        _cable((router, "eth0", f"{_SERVER_SIDE}/24"), (server, "eth0", f"{SERVER}/24"))
        for address in addresses:
            _ip("-n", server, "address", "add", f"{address}/32", "dev", "eth0")
        _ip("-n", client, "route", "add", "default", "via", _CLIENT_SIDE)
        _ip("-n", router, "route", "add", "default", "via", SERVER)
        _ip("-n", server, "route", "add", "default", "via", _SERVER_SIDE)
        network.run("router", "sh", "-ec", "echo 1 >/proc/sys/net/ipv4/ip_forward")
        yield network


def _cable(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    """Lay a cable between two ends, each a namespace, an interface and its address."""
    _ip("-n", one[0], "link", "add", one[1], "type", "veth", "peer", "name", other[1], "netns", other[0])
    for namespace, interface, address in (one, other):
        _ip("-n", namespace, "address", "add", address, "dev", interface)
        _ip("-n", namespace, "link", "set", interface, "up")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], capture_output=True, check=True)
