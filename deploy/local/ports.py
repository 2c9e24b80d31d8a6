"""The TCP ports of the stack: taken at its start, and held for as long as any of its processes lives.

A loopback port belongs to no user. Whoever took that of a hub that is being restarted would be sent the tokens that are
meant for the hub. So `up` itself listens on every port from its beginning on, and hands the open sockets to its parts:
nobody else can have them, and who connects while a part is away waits until it is back. Every part inherits all of
them, that they stay ours also when `up` is killed.
"""

import contextlib
import errno
import fcntl
import random
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deploy.local.settings import Settings, StartupError

# Below the ranges from which Linux (32768 up) and macOS (49152 up) take the ports of outgoing connections: there, a
# client that retries a dead part could be given the part's own port, talk to itself and keep the part from it.
CHOICE = range(20000, 32000)
BACKLOG = 2048
LOWEST_DESCRIPTOR = 64
"""Below lie the descriptors that a part gets its own sockets at (`handover.py`)."""
HANDOVER = Path(__file__).with_name("handover.py")


@dataclass(frozen=True)
class HeldPort:
    """A port that nobody else can listen on. The first of its sockets listens.

    A second one holds the same port of ::1 and does not listen, which refuses connections: a client of `localhost` that
    tries ::1 first goes on to 127.0.0.1, and to nobody else.
    """

    number: int
    sockets: tuple[socket.socket, ...]

    def handed_over(self, name: str, command: tuple[str, ...], *others: tuple[str, "HeldPort"]) -> tuple[str, ...]:
        """`command`, started with the listening socket under a name, and with `others`."""
        named = [f"{label}={port.sockets[0].fileno()}" for label, port in ((name, self), *others) if port.sockets]
        return (sys.executable, "-I", "-S", str(HANDOVER), *named, "--", *command)

    def close(self) -> None:
        """Let go of it; who inherited it still holds it."""
        for one in self.sockets:
            one.close()


@dataclass(frozen=True)
class Ports:
    """Every TCP port of a stack."""

    gateways: tuple[HeldPort, ...]
    proxy: HeldPort
    proxy_api: HeldPort
    hub: HeldPort

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What a part must inherit to hold all of them."""
        held = (*self.gateways, self.proxy, self.proxy_api, self.hub)
        return tuple(one.fileno() for port in held for one in port.sockets)


@contextlib.contextmanager
def hold_ports(settings: Settings) -> Iterator[Ports]:
    """Hold the gateways' ports and three free ones. Raises `StartupError` where a gateway's is somebody else's."""
    with contextlib.ExitStack() as held:

        def kept(port: HeldPort) -> HeldPort:
            held.callback(port.close)
            return port

        gateways = tuple(kept(_of_gateway(settings, port)) for port in settings.ports)
        yield Ports(gateways, *(kept(hold_any()) for _ in range(3)))


def check_ports(settings: Settings) -> str:
    """The gateways' ports. Raises `StartupError` for one that somebody else has."""
    for port in settings.ports:
        _of_gateway(settings, port).close()
    return ", ".join(str(port) for port in settings.ports)


def hold(host: str, number: int) -> HeldPort:
    """Take a port. Raises `OSError` (EADDRINUSE, EACCES), with the address as `filename`, if it can't be ours alone."""
    with contextlib.ExitStack() as made:
        listening = made.enter_context(_socket(socket.AF_INET))
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of an earlier run may linger
        with _naming(host):
            listening.bind((host, number))
            listening.listen(BACKLOG)
        guards = _guard(number) if listening.getsockname()[0] == "127.0.0.1" else ()
        made.pop_all()
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
    """Tell whether we could have a port now. Raises `OSError` when not even asking is possible."""
    try:
        hold(host, number).close()
    except OSError as error:
        if error.errno in {errno.EADDRINUSE, errno.EACCES}:
            return False
        raise
    return True


def _of_gateway(settings: Settings, number: int) -> HeldPort:
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
    try:
        guard = _socket(socket.AF_INET6)
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
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, address) from None


def _socket(family: socket.AddressFamily) -> socket.socket:
    """A socket at a high descriptor."""
    with socket.socket(family, socket.SOCK_STREAM) as low:
        return socket.socket(fileno=fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, LOWEST_DESCRIPTOR))
