"""HTTP/1.1 for untrusted clients: uvicorn's httptools protocol, with limits and deadlines for every step.

uvicorn itself accepts a head of any size, waits for its end without a limit, and buffers what a client does not read.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import uvicorn
from prometheus_client import Counter
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from services.common.models.errors import BinderyError
from services.common.web.http_bounds import HttpBounds
from services.common.web.problems import problem_response
from services.common.web.request_head import fault_of

PROGRESS_BYTES = 1024
"""Progress that a body or a response must make within each deadline: a byte now and then is not enough."""
LATE_TIMER_SECONDS = 1.0
"""A timer that fires later than this is set again: it was this process that was paused or very busy, not the client."""
PROBED = frozenset({"/health", "/livez", "/readyz", "/metrics"})
"""Paths answered beyond the limit of connections too, so that a full gateway is not taken for a dead one."""

REFUSED_CONNECTIONS = Counter(
    "bindery_http_refused_total", "HTTP connections ended before the client had read its answer, by reason", ["why"]
)


class HttpConfig(uvicorn.Config):
    """uvicorn's configuration, with the bounds that `BoundedHttpProtocol` keeps."""

    def __init__(self, app: ASGIApp, bounds: HttpBounds, **options: Any) -> None:
        super().__init__(app, http=BoundedHttpProtocol, **options)
        self.bounds = bounds


class BoundedHttpProtocol(HttpToolsProtocol):
    """One connection. If it breaks a limit, it is closed, after a 431, 408 or 503 unless a response is under way."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        assert isinstance(config, HttpConfig)  # noqa: S101
        self._bounds = config.bounds

        self._in_head = True
        self._has_begun = False
        """Whether at least one byte of the head that is being read has arrived."""
        self._has_advanced = False
        """Whether the parser completed a head, a part of a body or a request with the current piece."""
        self._unspent_bytes = 0
        """Bytes since the head began, or since the last part of a body: the most that the parser may hold."""
        self._body_bytes = 0
        self._unsent_bytes = 0
        self._fault = ""

        self._is_dismissed = False
        self._running: RequestResponseCycle | None = None
        """The request that is being answered, while `cycle` may be a later, pipelined one."""
        self._deadlines: dict[str, asyncio.TimerHandle] = {}
        """Timers of the head, the body and the response, while one of them is awaited."""

    # The connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the deadline of the first head, or abort if there are too many connections."""
        super().connection_made(transport)
        if self._bounds.connections and len(self.connections) > self._bounds.connections_with_spare:
            REFUSED_CONNECTIONS.labels("connections").inc()
            transport.abort()
            return
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel all deadlines, and tell the application."""
        self._cancel_deadlines("head", "body", "send")
        if self._running is not None and self._running is not self.cycle:  # uvicorn tells the last one only
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser in pieces that keep to the limit of a head, and set the next deadline."""
        if self._is_dismissed:
            return

        at = 0
        size = len(data)
        while at < size:
            room = self._bounds.head_bytes - self._unspent_bytes
            piece = data if not at and size <= room else data[at : at + room]
            at += len(piece)
            self._has_advanced = False
            super().data_received(piece)
            if self._is_dismissed or self.transport.is_closing():
                return

            # A head that begins within a piece (a pipelined one) is counted from the next piece on.
            self._unspent_bytes = 0 if self._has_advanced else self._unspent_bytes + len(piece)
            if self._unspent_bytes >= self._bounds.head_bytes:
                self._refuse("head_size", _too_large(self._bounds), 431)
                return

        if not self._in_head:
            self._expect_body()
        elif self._unspent_bytes:
            self._expect_head()

    # What the parser finds

    def on_message_begin(self) -> None:
        """Note that a head has begun."""
        self._has_begun = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Check the head, and hand the request to the application. Raise `ValueError`, which stops the parser."""
        version = self.parser.get_http_version()
        upgrades = self.parser.should_upgrade()
        if fault := fault_of(self.headers, version, upgrades=upgrades):
            self._fault = fault
            raise ValueError(fault)  # the parser stops, and `send_400_response` is called

        self._in_head = False
        self._has_advanced = True
        if self._deadlines:
            self._cancel_deadlines("head")

        super().on_headers_complete()
        self.headers = []  # trailers follow, which must not be taken for headers (RFC 9110, 6.5.1)
        if len(self.pipeline) > self._bounds.pipelined:
            raise ValueError("too many requests ahead of their answers")  # the parser stops, and says so

    def on_body(self, body: bytes) -> None:
        """Count a part of the body as progress."""
        self._has_advanced = True
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Expect the next head; if the request was answered already, keep the connection alive for it."""
        self._in_head = True
        self._has_begun = False
        self._has_advanced = True
        if self._deadlines:
            self._cancel_deadlines("body")

        super().on_message_complete()
        if self.cycle.response_complete:  # all of a request has come that was answered before
            self._cancel_deadlines("head")
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def send_400_response(self, msg: str) -> None:
        """Refuse what the parser could not read, or what was wrong with the head."""
        detail = self._fault or f"{msg} This port speaks HTTP/1.1."
        self._refuse("no_http", BinderyError("bad_request", detail), 400)

    def _unsupported_upgrade_warning(self) -> None:
        self.cycle.keep_alive = False  # the request is answered, but the parser reads no other behind an `Upgrade`

    # Answers

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        limit = self._bounds.connections
        if limit and len(self.connections) > limit and cycle.scope["path"] not in PROBED:
            REFUSED_CONNECTIONS.labels("connections").inc()
            app = _overloaded
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Let go of the rest of a request that was answered early, and watch that the client reads the response."""
        super().on_response_complete()
        if not self._in_head and self.cycle.response_complete and not self.transport.is_closing():
            # It was answered before all of it arrived. If the connection were closed now, the client might not see the
            # response (RFC 9112, 9.6). So the rest is discarded, for as long as another head would be awaited.
            self._unset_keepalive_if_required()
            self._cancel_deadlines("body")
            self._expect_head()
        if self.transport.get_write_buffer_size():
            self._cancel_deadlines("send")
            self._expect_reading()

    def pause_writing(self) -> None:
        """Start the deadline of a client that does not read."""
        super().pause_writing()
        self._expect_reading()

    # Deadlines

    def _set_deadline(self, name: str, seconds: float, call: Callable[[], None]) -> None:
        """Call after `seconds`, unless there is a deadline of that name already."""
        if name not in self._deadlines:
            due = self.loop.time() + seconds
            self._deadlines[name] = self.loop.call_at(due, self._on_deadline, name, seconds, due, call)

    def _on_deadline(self, name: str, seconds: float, due: float, call: Callable[[], None]) -> None:
        """Enforce a deadline, or set it again if this process is late: what the client sent may still be unread."""
        del self._deadlines[name]
        if self.loop.time() - due > LATE_TIMER_SECONDS:
            self._set_deadline(name, seconds, call)
        else:
            call()

    def _cancel_deadlines(self, *names: str) -> None:
        for name in names:
            if (timer := self._deadlines.pop(name, None)) is not None:
                timer.cancel()

    def _expect_head(self) -> None:
        self._set_deadline("head", self._bounds.head_seconds, self._on_late_head)

    def _on_late_head(self) -> None:
        if not self._in_head and self.cycle.response_complete:
            self.transport.close()
        elif self._has_begun:
            seconds = self._bounds.head_seconds
            self._refuse("head_time", BinderyError("request_timeout", f"Its head took longer than {seconds:g} s."), 408)
        elif not self._is_answering:  # an old client may have ended its request's body with an empty line
            self.transport.close()

    def _expect_body(self) -> None:
        if "body" not in self._deadlines and not self.cycle.response_complete:
            self._body_bytes = 0
            self._set_deadline("body", self._bounds.body_seconds, self._check_body)

    def _check_body(self) -> None:
        is_paused_by_us = self.flow.read_paused or self.cycle.waiting_for_100_continue
        if is_paused_by_us or self._body_bytes >= PROGRESS_BYTES:
            self._expect_body()
            return
        seconds = self._bounds.body_seconds
        self._refuse("body_time", BinderyError("request_timeout", f"Its body stood still for {seconds:g} s."), 408)

    def _expect_reading(self) -> None:
        if "send" not in self._deadlines:
            self._unsent_bytes = self.transport.get_write_buffer_size()
            self._set_deadline("send", self._bounds.send_seconds, self._check_sending)

    def _check_sending(self) -> None:
        unsent_bytes = self.transport.get_write_buffer_size()
        # New writes to a client that is not held up would hide what it has read.
        is_written_to = self._is_answering and not self.flow.write_paused
        if unsent_bytes and (is_written_to or self._unsent_bytes - unsent_bytes >= PROGRESS_BYTES):
            self._expect_reading()
        elif unsent_bytes:
            REFUSED_CONNECTIONS.labels("send_time").inc()
            self.transport.abort()

    # The end

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _refuse(self, why: str, error: BinderyError, status: int) -> None:
        """End the connection; say why, unless that would be taken for a part of another response."""
        if self._is_dismissed or self.transport.is_closing():
            return
        REFUSED_CONNECTIONS.labels(why).inc()

        if self._is_answering:
            if self.cycle.response_started or self.pipeline or self._in_head:
                self.transport.close()
                if self.transport.get_write_buffer_size():
                    self._expect_reading()
                return
            self.cycle.disconnected = True  # the application's response is discarded from now on
            self.cycle.message_event.set()

        answer = problem_response(error.problem.updated(status=status), {"connection": "close"})
        self.transport.write(STATUS_LINE[status] + _header_lines(answer) + b"\r\n" + bytes(answer.body))
        self._dismiss()

    def _dismiss(self) -> None:
        """Close our half and discard input for a while: if closed at once, the client would not see the response."""
        self._is_dismissed = True
        self._unset_keepalive_if_required()
        self._cancel_deadlines("head", "body")
        self.flow.resume_reading()
        self.transport.write_eof()
        self._set_deadline("head", self._bounds.head_seconds, self.transport.abort)


def _header_lines(answer: Response) -> bytes:
    return b"".join(name + b": " + value + b"\r\n" for name, value in answer.raw_headers)


def _too_large(bounds: HttpBounds) -> BinderyError:
    detail = f"The head of a request, its line and headers, may have {bounds.head_bytes} bytes at most."
    return BinderyError("request_too_large", detail)


async def _overloaded(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer in place of the application while there are too many connections."""
    await problem_response(BinderyError("overloaded").problem, {"connection": "close"})(scope, receive, send)
