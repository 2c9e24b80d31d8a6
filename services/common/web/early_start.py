"""Starting behind a port that is open already: probes are answered, and told why the start takes so long or fails."""

import asyncio
import contextlib
import traceback
from collections.abc import Callable
from ipaddress import ip_address

from fastapi import FastAPI
from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.common.models.error_codes import ErrorCode
from services.common.models.errors import BinderyError
from services.common.service.health import NOT_STARTED
from services.common.service.logging import get_logger
from services.common.service.loops import BackgroundState, background_state
from services.common.service.start import start_sentence, unforeseen_sentence
from services.common.service.tasks import Interrupted, cancel_and_wait, run_until
from services.common.web.auth import has_token
from services.common.web.problems import problem_response

log = get_logger(__name__)

JUST_BEGUN = "It is starting."
RETRY_AFTER_SECONDS = 2.0
"""When a client may try again, whose request came before the start had ended."""

Refusal = Callable[[Request, BinderyError], Response]
"""Makes the response to a request that is refused."""


class EarlyStart:
    """An application for uvicorn, which is served from the beginning of its start on, and not only from its end.

    uvicorn opens its port once the application has started, so a service that waits for Redis would look like one that
    is not there. Here the application starts in a task: `BackgroundState.start_problem` says meanwhile what it waits
    for. A start that fails is logged and ends the process: at once, unless the operator can read what to do; then that
    is shown for `shown_seconds` first.
    """

    def __init__(self, app: FastAPI, *, shown_seconds: float, end_seconds: float) -> None:
        """Prepare the start; one that is interrupted may take `end_seconds` to give back what it has taken."""
        self._app = app
        self._shown_seconds = shown_seconds
        self._end_seconds = end_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application's start and end; pass requests on."""
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return

        background = background_state()
        background.start_problem = JUST_BEGUN
        end = asyncio.Event()
        running = asyncio.create_task(self._run(background, end), name="application")
        await receive()
        await send({"type": "lifespan.startup.complete"})

        await receive()
        end.set()
        if background.start_problem:
            # Once: a second cancel would interrupt the hand-over of a start that has got as far as to own something.
            await cancel_and_wait(running, again_seconds=self._end_seconds, within_seconds=self._end_seconds)
        else:
            await asyncio.wait({running})

        if not running.cancelled() and (error := running.exception()):
            message = "".join(traceback.format_exception(error))
            await send({"type": "lifespan.shutdown.failed", "message": message})
        else:
            await send({"type": "lifespan.shutdown.complete"})

    async def _run(self, background: BackgroundState, end: asyncio.Event) -> None:
        """Run the application until `end`. Raise what its end raises."""
        has_started = False
        try:
            async with self._app.router.lifespan_context(self._app):
                has_started = True
                background.start_problem = ""
                background.start_ended.set()
                await end.wait()
        except Exception as error:
            if has_started:
                raise
            await self._show(error, background)

    async def _show(self, error: Exception, background: BackgroundState) -> None:
        """Log why the start has failed, and end the process.

        What the operator can mend is shown by health before. What nobody foresaw may have passed in a new process.
        """
        sentence = start_sentence(error)
        shown_seconds = self._shown_seconds if sentence else 0.0
        if sentence:
            log.error("start_refused", reason=sentence)
        else:
            log.error("start_failed", exc_info=error)

        background.start_problem = sentence or unforeseen_sentence(error)
        background.start_ended.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(shown_seconds):
                await background.stopping.wait()
        background.end_reason = background.end_reason or background.start_problem
        background.ended.set()


class RefusedStart:
    """ASGI middleware for a service that can't start: it answers 503, and says why to holders of its service token.

    One that has no service token, which is a reason not to start, says why to programs on its own host.
    """

    def __init__(self, app: ASGIApp, *, sentence: str, service_token: SecretStr) -> None:
        self.app = app
        self._sentence = sentence
        self._service_token = service_token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as `/health` does, except at `/livez`: a new process could not start either."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["path"] == "/livez":
            await JSONResponse({"ok": True, "message": ""})(scope, receive, send)
            return
        message = self._sentence if self._may_know(scope) else NOT_STARTED
        body = {"ok": False, "checks": [{"service": "Start", "ok": False, "message": message}]}
        await JSONResponse(body, 503, {"Retry-After": "10"})(scope, receive, send)

    def _may_know(self, scope: Scope) -> bool:
        if self._service_token.get_secret_value():
            return has_token(scope, self._service_token)
        client = scope.get("client")
        return not client or not client[0] or ip_address(client[0]).is_loopback


class RefuseUntilStarted:
    """ASGI middleware that keeps requests until the service has started; after `hold_seconds` it answers 503.

    A client that comes while a process is replaced so waits a moment, as it would for a port that is not open yet. At
    most `held_max` requests wait. One whose client goes meanwhile is dropped: it asked again, or has given up.
    """

    def __init__(
        self, app: ASGIApp, *, name: str, hold_seconds: float, held_max: int, refusal: Refusal | None = None
    ) -> None:
        self.app = app
        self._hold_seconds = hold_seconds
        self._held_max = held_max
        self._held = 0
        self._name = name
        self._code = _CODES.get(name, "builder_unavailable")
        self._refusal = refusal or _problem
        self._background: BackgroundState | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on if the service has started."""
        if scope["type"] == "http":
            if self._background is None:
                self._background = background_state()
            if self._background.start_problem:
                await self._hold(self._background, scope, receive, send)
                return
        await self.app(scope, receive, send)

    async def _hold(self, background: BackgroundState, scope: Scope, receive: Receive, send: Send) -> None:
        client = _HeldClient(scope, receive)
        if self._held < self._held_max:
            self._held += 1
            try:
                with contextlib.suppress(TimeoutError, Interrupted):
                    async with asyncio.timeout(self._hold_seconds):
                        await run_until(background.stopping, run_until(background.start_ended, client.gone()))
            finally:
                self._held -= 1

        if client.has_gone:
            return
        if not background.start_problem:
            await self.app(scope, client.receive, send)
            return
        sentence = f"The {self._name} has not started yet: please try again in a moment."
        error = BinderyError(self._code, sentence, retry_after_seconds=RETRY_AFTER_SECONDS)
        await self._refusal(Request(scope), error)(scope, client.receive, send)


class _HeldClient:
    """The client of a request that waits: it may go, which shows only once the body that it has sent is read."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._receive = receive
        # To read is to ask for the body, which the application may refuse by its size.
        self._is_asked_first = any(name == b"expect" for name, _ in scope["headers"])
        self._messages: list[Message] = []
        self.has_gone = False

    async def gone(self) -> None:
        """Return when the client has gone. At most the first part of a body is read: with more of it, never return."""
        is_read = self._is_asked_first
        while not is_read:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.has_gone = True
                return
            self._messages.append(message)
            is_read = message.get("more_body", False)
        await asyncio.Event().wait()

    async def receive(self) -> Message:
        """Return the next part of the request, as the application reads it."""
        return self._messages.pop(0) if self._messages else await self._receive()


_CODES: dict[str, ErrorCode] = {
    "gateway": "gateway_unavailable",
    "resolver": "resolver_unavailable",
    "builder": "builder_unavailable",
    "launcher": "launcher_unavailable",
}


def _problem(_request: Request, error: BinderyError) -> Response:
    return problem_response(error.problem)
