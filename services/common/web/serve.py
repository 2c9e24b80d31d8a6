"""Running a service: uvicorn with uvloop and our HTTP protocol, and a bounded shutdown."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Iterator
from types import FrameType

import uvicorn
import uvloop
from fastapi import FastAPI

from services.common.service.logging import configure_logging
from services.common.service.setting_names import warn_of_unknown_variables
from services.common.service.settings import ServiceSettings
from services.common.web.http_bounds import HttpBounds
from services.common.web.http_protocol import HttpConfig
from services.common.web.listening import BACKLOG, open_listeners


class HttpServer(uvicorn.Server):
    """A uvicorn server that notifies the application of a signal at once, while open requests still run."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Set `app.state.exiting`, if the application has it, and begin to shut down."""
        exiting = getattr(getattr(self.config.app, "state", None), "exiting", None)
        if isinstance(exiting, asyncio.Event):
            exiting.set()
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


class EmbeddedServer(uvicorn.Server):
    """A server inside a process that handles its signals itself."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signal handlers as they are."""
        yield


@contextlib.asynccontextmanager
async def serving(
    app: FastAPI, settings: ServiceSettings, *, sockets: list[socket.socket] | None
) -> AsyncIterator[asyncio.Task[None]]:
    """Serve `app` beside other work of this process, and yield the server's task; stop serving at the exit."""
    server = EmbeddedServer(http_config(app, settings))
    task = asyncio.create_task(server.serve(sockets=sockets), name="server")
    try:
        yield task
    finally:
        server.should_exit = True
        await asyncio.gather(task, return_exceptions=True)


def serve(app: FastAPI, settings: ServiceSettings, *, service: str, drain_seconds: int = 5) -> None:
    """Serve `app` until SIGTERM or SIGINT; open requests get `drain_seconds` to end."""
    configure_logging(service=service, level=settings.log_level, form=settings.log_format)
    warn_of_unknown_variables(os.environ)
    config = http_config(app, settings, drain_seconds=drain_seconds)
    listeners = open_listeners(settings)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(HttpServer(config).serve(sockets=listeners))
