"""A relay to a TCP service from another address: an engine's socket by TCP, a registry beyond loopback."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

_CHUNK_BYTES = 65536


@contextlib.contextmanager
def relay(target: Path | tuple[str, int], *, listen: tuple[str, int] = ("127.0.0.1", 0)) -> Iterator[str]:
    """Pass on what comes at a TCP address to a Unix socket or another address, and back; as DOCKER_HOST has it.

    Each direction goes on until its own end: on an engine's upgraded connections who writes no more still reads.
    """
    family = socket.AF_UNIX if isinstance(target, Path) else socket.AF_INET
    address = str(target) if isinstance(target, Path) else target
    with socket.create_server(listen) as server, contextlib.ExitStack() as connections:

        def accept() -> None:
            with contextlib.suppress(OSError):  # the server is closed: the end of the block
                while True:
                    near, _ = server.accept()
                    far = socket.socket(family)
                    connections.callback(near.close)
                    connections.callback(far.close)
                    far.connect(address)
                    for source, sink in ((near, far), (far, near)):
                        threading.Thread(target=_pass_on, args=(source, sink), daemon=True).start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield f"tcp://{listen[0]}:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)  # a close alone would not wake the thread that accepts
            accepting.join(10)


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the other side is gone, or the block has ended
        while content := source.recv(_CHUNK_BYTES):
            sink.sendall(content)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
