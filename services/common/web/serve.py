"""Running a service: uvicorn with uvloop and our HTTP protocol, a port that is open early, and a bounded shutdown."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from types import FrameType
from typing import Any, TypeVar

import uvicorn
import uvloop
from fastapi import FastAPI
from pydantic import SecretStr
from starlette.types import ASGIApp

from services.common.service.logging import configure_logging, get_logger
from services.common.service.loops import BackgroundState, background_state
from services.common.service.setting_names import warn_of_unknown_variables
from services.common.service.settings import ServiceSettings
from services.common.service.start import CannotStart, start_sentence
from services.common.web.early_start import EarlyStart, RefusedStart
from services.common.web.http_bounds import HttpBounds
from services.common.web.http_protocol import HttpConfig
from services.common.web.listening import BACKLOG, open_listeners

log = get_logger(__name__)

S = TypeVar("S", bound=ServiceSettings)

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


def http_config(app: ASGIApp, settings: ServiceSettings, *, drain_seconds: int = 5) -> HttpConfig:
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
        timeout_keep_alive=settings.http_keepalive_seconds,
        timeout_graceful_shutdown=drain_seconds,
        backlog=BACKLOG,
    )


def serve(app: FastAPI, settings: ServiceSettings, *, service: str, drain_seconds: int = 5) -> None:
    """Serve `app` until SIGTERM or SIGINT, also while it still starts; open requests get `drain_seconds` to end.

    This is how every process of a service ends. Raise `SystemExit(1)` if the application could not start, if its
    background work ended before it was asked to, or if it failed in its end.
    """
    configure_logging(service=service, level=settings.log_level, form=settings.log_format)
    warn_of_unknown_variables(os.environ)
    early = EarlyStart(
        app,
        shown_seconds=settings.start_problem_shown_seconds,
        end_seconds=settings.hand_over_seconds + END_SECONDS,
    )
    config = http_config(early, settings, drain_seconds=drain_seconds)
    end_seconds = drain_seconds + settings.hand_over_seconds + END_SECONDS
    listeners = open_listeners(settings)
    log.info("listening", at=[str(listener.getsockname()) for listener in listeners])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(HttpServer(config, end_seconds=end_seconds).serve(sockets=listeners))


def run_service(
    settings_class: type[S],
    create_app: Callable[[S], FastAPI],
    *,
    service: str,
    drain_seconds: Callable[[S], int] = lambda _settings: 5,
) -> None:
    """Run a service with the settings of the environment until it is asked to end.

    Raise `SystemExit`, with one sentence, if its settings make no sense or a secret is missing; if
    `start_problem_shown_seconds` is set, health has the sentence for as long before. Whatever else `create_app` raises,
    which nobody foresaw, is raised at once. The exit status is 1.
    """
    settings: ServiceSettings | None = None
    try:
        settings = settings_class()
        app = create_app(settings)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a container that only restarts would have no health
        _show_refusal(error, settings or _settings_for_probes(), service=service)
    else:
        serve(app, settings, service=service, drain_seconds=drain_seconds(settings))


def _show_refusal(error: Exception | SystemExit, settings: ServiceSettings, *, service: str) -> None:
    """Serve nothing but probes, which tell what to do before the service can start; then raise `SystemExit`.

    If they are to be served for no time, raise `SystemExit` with the sentence at once; and the error itself, if there
    is no sentence.
    """
    sentence = start_sentence(error)
    if not sentence:
        raise error
    if settings.start_problem_shown_seconds <= 0:
        raise SystemExit(sentence)

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        if sentence:
            raise CannotStart(sentence)
        yield

    app = FastAPI(lifespan=lifespan)
    app.add_middleware(RefusedStart, sentence=sentence, service_token=settings.service_token)
    serve(app, settings, service=service)


def _settings_for_probes() -> ServiceSettings:
    """Return settings for a service whose own ones make no sense: those of every service, or else the defaults."""
    with contextlib.suppress(Exception):
        return ServiceSettings()

    values: dict[str, Any] = {}
    kinds = {"listen_host": str, "listen_port": int, "start_problem_shown_seconds": float, "service_token": SecretStr}
    for name, kind in kinds.items():
        with contextlib.suppress(KeyError, ValueError):
            values[name] = kind(os.environ[f"BINDERY_{name.upper()}"].strip())
    return ServiceSettings.model_construct(None, **values)
