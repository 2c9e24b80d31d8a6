"""Running a service: uvicorn with uvloop and our HTTP protocol, and a bounded shutdown."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from types import FrameType

import uvicorn
import uvloop
from fastapi import FastAPI

from services.common.service.logging import configure_logging
from services.common.service.loops import BackgroundState, background_state
from services.common.service.setting_names import warn_of_unknown_variables
from services.common.service.settings import ServiceSettings
from services.common.web.http_bounds import HttpBounds
from services.common.web.http_protocol import HttpConfig
from services.common.web.listening import BACKLOG, open_listeners

END_SECONDS = 10.0
"""Time for all else of a process's end, after open requests and the hand-over have had theirs."""


class HttpServer(uvicorn.Server):
    """A uvicorn server that ends with its process: by a signal, or because background work ended unexpectedly.

    Either way the application is notified at once, while open requests still run (`BackgroundState.stopping`).
    """

    def __init__(self, config: HttpConfig, *, end_seconds: float) -> None:
        """Create a server. After an unexpected end of background work, the process is killed after `end_seconds`."""
        super().__init__(config)
        self._end_seconds = end_seconds
        self._background: BackgroundState | None = None

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until a signal.

        Raise `SystemExit(1)` if background work ended before that, or if the application failed in its end.
        """
        self._background = background_state()
        watcher = asyncio.create_task(self._stop_when_ended(self._background), name="watch background work")
        try:
            await super().serve(sockets)
        finally:
            watcher.cancel()
        if self._background.ended.is_set() or self.lifespan.should_exit:
            raise SystemExit(1)

    async def _stop_when_ended(self, background: BackgroundState) -> None:
        await background.ended.wait()
        background.stopping.set()
        self.should_exit = True
        # Whatever has ended, the rest may hang in its own end.
        asyncio.get_running_loop().call_later(self._end_seconds, os._exit, 1)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals while this serves. A process that has ended as it was asked to has exit status 0.

        Uvicorn would raise the signal once more after the end, and so end the process by it.
        """
        with super().capture_signals():
            yield
            self._captured_signals.clear()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Notify the application, and begin to shut down."""
        if self._background is not None:
            self._background.stopping.set()
        super().handle_exit(sig, frame)


def http_config(app: FastAPI, settings: ServiceSettings, *, drain_seconds: int = 5) -> HttpConfig:
    """Return uvicorn's configuration for a service: bounds by its settings, and `drain_seconds` for open requests."""
    return HttpConfig(
        app,
        HttpBounds.of(settings),
        host=settings.listen_host,
        port=settings.listen_port,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # the gateway has a setting for the proxies that it trusts
        timeout_keep_alive=75,
        timeout_graceful_shutdown=drain_seconds,
        backlog=BACKLOG,
    )


def serve(app: FastAPI, settings: ServiceSettings, *, service: str, drain_seconds: int = 5) -> None:
    """Serve `app` until SIGTERM or SIGINT; open requests get `drain_seconds` to end.

    This is how every process of a service ends. Raise `SystemExit(1)` if background work of the application ended
    before it was asked to, or if the application failed in its end.
    """
    configure_logging(service=service, level=settings.log_level, form=settings.log_format)
    warn_of_unknown_variables(os.environ)
    config = http_config(app, settings, drain_seconds=drain_seconds)
    end_seconds = drain_seconds + settings.hand_over_seconds + END_SECONDS
    listeners = open_listeners(settings)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(HttpServer(config, end_seconds=end_seconds).serve(sockets=listeners))
