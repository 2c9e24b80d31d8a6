"""The TCP ports of the stack: taken at its start, and held for as long as any of its processes lives.

A loopback port belongs to no user: a program that took the port of a hub that is being restarted would be sent the
tokens for the hub. So `up` itself listens on every port from its beginning on, and hands the open sockets over to its
components. Nobody else can have these ports, and a client that connects while a component is away waits until it is
back. Every component inherits all of the sockets, so that the ports stay ours if `up` is killed.

The exception is a component that a developer runs by hand (`bindery up --without`): it has to open its own port, so
that port is chosen and not held.
"""

import contextlib
import errno
import fcntl
import random
import socket
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from deploy.local.settings import Settings, StartupError

# Below the ranges from which Linux (32768 up) and macOS (49152 up) take the ports of outgoing connections: there, a
# client that retries a dead component could be given its very port, talk to itself and keep the component from it.
CHOICE = range(20000, 32000)
BACKLOG = 2048
LOWEST_DESCRIPTOR = 64
"""The descriptors below are for the sockets that a component gets as its own (`handover.py`)."""
HANDOVER = Path(__file__).with_name("handover.py")


@dataclass(frozen=True)
class HeldPort:
    """A port that nobody else can listen on. The first of its sockets listens; without sockets it is not held.

    A second socket holds the same port of ::1 and does not listen, which refuses connections: a client of `localhost`
    that tries ::1 first goes on to 127.0.0.1, and reaches nobody else.
    """

    number: int
    sockets: tuple[socket.socket, ...]

    def handed_over(self, name: str, command: tuple[str, ...], *others: tuple[str, "HeldPort"]) -> tuple[str, ...]:
        """Return `command` so that it inherits the listening socket under a name, and those of `others`.

        Without sockets it is `command` itself, which opens the ports.
        """
        held = [(label, port) for label, port in ((name, self), *others) if port.sockets]
        if not held:
            return command

        sockets = [f"{label}={port.sockets[0].fileno()}" for label, port in held]
        return (sys.executable, "-I", "-S", str(HANDOVER), *sockets, "--", *command)

    def close(self) -> None:
        """Close our sockets; a process that inherited them still holds the port."""
        for listening_socket in self.sockets:
            listening_socket.close()

    def released(self) -> "HeldPort":
        """Close our sockets and return the port as one that is not held."""
        self.close()
        return HeldPort(self.number, ())


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Every TCP port of a stack."""

    gateways: tuple[HeldPort, ...]
    proxy: HeldPort
    proxy_api: HeldPort
    hub: HeldPort

    @property
    def descriptors(self) -> tuple[int, ...]:
        """Descriptors that a component must inherit to hold all of them."""
        held = (*self.gateways, self.proxy, self.proxy_api, self.hub)
        return tuple(listening_socket.fileno() for port in held for listening_socket in port.sockets)

    def without(self, kinds: Collection[str]) -> "Ports":
        """Return the same ports, with those of some kinds of components released."""
        ports = self
        if "gateway" in kinds:
            ports = replace(ports, gateways=tuple(port.released() for port in ports.gateways))
        if "proxy" in kinds:
            ports = replace(ports, proxy=ports.proxy.released(), proxy_api=ports.proxy_api.released())
        if "hub" in kinds:
            ports = replace(ports, hub=ports.hub.released())

        return ports


@contextlib.contextmanager
def hold_ports(settings: Settings, without: Collection[str] = ()) -> Iterator[Ports]:
    """Hold the gateways' ports and three others until the context exits, except those of the kinds in `without`.

    Raise `StartupError` if another program has a gateway's port.
    """
    with contextlib.ExitStack() as stack:

        def keep(port: HeldPort) -> HeldPort:
            stack.callback(port.close)
            return port

        gateways = tuple(keep(_hold_for_gateway(settings, number)) for number in settings.ports)
        ports = Ports(gateways=gateways, proxy=keep(hold_any()), proxy_api=keep(hold_any()), hub=keep(hold_any()))
        yield ports.without(without)


def check_ports(settings: Settings) -> str:
    """Return the gateways' ports as text. Raise `StartupError` if another program has one of them."""
    for number in settings.ports:
        _hold_for_gateway(settings, number).close()

    return ", ".join(str(number) for number in settings.ports)


def hold(host: str, number: int) -> HeldPort:
    """Take a port. Raise `OSError` (EADDRINUSE, EACCES), with the address as `filename`, if it can't be ours alone."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(_open_socket(socket.AF_INET))
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of an earlier run may linger
        with _naming(host):
            listening.bind((host, number))
            listening.listen(BACKLOG)
        guards = _guard(number) if listening.getsockname()[0] == "127.0.0.1" else ()
        stack.pop_all()

    return HeldPort(number, (listening, *guards))


def hold_any() -> HeldPort:
    """Take some port of 127.0.0.1."""
    for number in random.sample(CHOICE, len(CHOICE)):
        try:
            return hold("127.0.0.1", number)
        except OSError as error:
            if error.errno not in {errno.EADDRINUSE, errno.EACCES}:
                raise

    raise OSError(errno.EADDRINUSE, f"no free port between {CHOICE.start} and {CHOICE.stop}")


def is_free(host: str, number: int) -> bool:
    """Return whether we could take a port now. Raise `OSError` if that can't be found out."""
    try:
        hold(host, number).close()
    except OSError as error:
        if error.errno in {errno.EADDRINUSE, errno.EACCES}:
            return False
        raise

    return True


def _hold_for_gateway(settings: Settings, number: int) -> HeldPort:
    try:
        return hold(settings.host, number)
    except OSError as error:
        if error.errno not in {errno.EADDRINUSE, errno.EACCES}:
            raise
        first = settings.port
        raise StartupError(
            f"Port {number} of {error.filename} is in use: end what listens there, or set BINDERY_PORT "
            f"(now {first}) to another port, as in `BINDERY_PORT={first + 1000} make up`."
        ) from None


def _guard(number: int) -> tuple[socket.socket, ...]:
    """Take the same port of ::1; nothing on a machine without IPv6."""
    try:
        guard = _open_socket(socket.AF_INET6)
    except OSError:  # a system without IPv6
        return ()

    try:
        # Without SO_REUSEADDR: of two sockets that have it, and don't listen, the second could take the port.
        with _naming("::1"):
            guard.bind(("::1", number))
    except OSError as error:
        guard.close()
        if error.errno == errno.EADDRNOTAVAIL:  # a machine without an IPv6 loopback
            return ()
        raise

    return (guard,)


@contextlib.contextmanager
def _naming(address: str) -> Iterator[None]:
    """Put an address into the `OSError` of the block."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, address) from None


def _open_socket(family: socket.AddressFamily) -> socket.socket:
    """Open a socket at a high descriptor."""
    with socket.socket(family, socket.SOCK_STREAM) as low:
        return socket.socket(fileno=fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, LOWEST_DESCRIPTOR))
