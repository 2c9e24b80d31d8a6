"""A relay to a TCP service whose answers trickle for as long as the test says."""

import contextlib
import re
import socket
import threading
from types import TracebackType
from typing import Self

_REQUEST = re.compile(rb"^([A-Z]+ \S+) HTTP/1\.[01]\r\n", re.MULTILINE)
_CHUNK_BYTES = 8192
_PAUSE_SECONDS = 0.1


class SlowRelay:
    """Listens on loopback and passes on to `port`; between `slow_down` and `speed_up`, 80 KB a second come back.

    `requests` are the requests of HTTP that passed, as `GET /v2/`.
    """

    def __init__(self, port: int) -> None:
        self.requests: list[str] = []
        self._to = port
        self._is_fast = threading.Event()
        self._is_fast.set()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"

    def slow_down(self) -> None:
        self._is_fast.clear()

    def speed_up(self) -> None:
        self._is_fast.set()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.speed_up()
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                service = socket.create_connection(("127.0.0.1", self._to))
                threading.Thread(target=self._forth, args=(client, service), daemon=True).start()
                threading.Thread(target=self._back, args=(service, client), daemon=True).start()

    def _forth(self, client: socket.socket, service: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(1 << 16):
                self.requests += [match.decode() for match in _REQUEST.findall(data)]
                service.sendall(data)
        with contextlib.suppress(OSError):
            service.shutdown(socket.SHUT_WR)

    def _back(self, service: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := service.recv(_CHUNK_BYTES):
                client.sendall(data)
                self._is_fast.wait(0 if self._is_fast.is_set() else _PAUSE_SECONDS)
        for connection in (service, client):
            connection.close()
