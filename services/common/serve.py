"""Running a service: uvicorn with uvloop and httptools, and an end that is never waited for without bound."""

import asyncio
from types import FrameType

import uvicorn
from fastapi import FastAPI

from services.common.logging import configure_logging
from services.common.settings import ServiceSettings


class Server(uvicorn.Server):
    """Tells the application at once when it is asked to end, while open requests still run."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal came: set `app.state.exiting`, if the application has that, and begin to shut down."""
        exiting = getattr(getattr(self.config.app, "state", None), "exiting", None)
        if isinstance(exiting, asyncio.Event):
            exiting.set()
        super().handle_exit(sig, frame)


def serve(app: FastAPI, settings: ServiceSettings, *, service: str, drain_seconds: int = 5) -> None:
    """Serve `app` until SIGTERM or SIGINT; open requests get `drain_seconds` to end."""
    configure_logging(service=service, level=settings.log_level, form=settings.log_format)
    config = uvicorn.Config(
        app,
        host=settings.listen_host,
        port=settings.listen_port,
        loop="uvloop",
        http="httptools",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # whom to believe is a setting of the gateway
        timeout_keep_alive=75,
        timeout_graceful_shutdown=drain_seconds,
        backlog=2048,
    )
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(Server(config).serve())
