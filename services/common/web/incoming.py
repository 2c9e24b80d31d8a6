"""Middleware for every request of every service: a limit on its body, and HEAD answered as GET is."""

import asyncio

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_BODY_HEADERS = frozenset({b"content-length", b"transfer-encoding"})
_IS_HEAD = "bindery.is_head"


class BoundedBodies:
    """Pure ASGI middleware that refuses a request body larger than `max_bytes` while it is being read.

    A body that announces its size is refused before anything of it is read. The read raises `HTTPException(413)`, the
    only exception that FastAPI passes on from there, so that the response is a problem or a page as for other errors.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its body limited."""
        announced_bytes = _announced_bytes(scope) if scope["type"] == "http" else 0
        if announced_bytes == 0:
            await self.app(scope, receive, send)
            return
        received_bytes = 0

        async def bounded() -> Message:
            nonlocal received_bytes
            if (announced_bytes or 0) <= self._max_bytes:
                message = await receive()
                received_bytes += len(message.get("body", b""))
                if received_bytes <= self._max_bytes:
                    return message
            raise HTTPException(413, f"A request may have {self._max_bytes} bytes at most.")

        await self.app(scope, bounded, send)


def _announced_bytes(scope: Scope) -> int | None:
    """Return the size of a body by its headers: 0 if there is no body, None if they don't say."""
    headers = {name: value for name, value in scope["headers"] if name in _BODY_HEADERS}
    if not headers:
        return 0
    length = headers.get(b"content-length", b"")
    return int(length[:20]) if length.isdigit() and b"transfer-encoding" not in headers else None


class HeadRequests:
    """Pure ASGI middleware that answers HEAD wherever GET is, with the same headers and no body (RFC 9110, 9.3.2).

    It runs the route for GET up to the head of the response, and then pretends that the client has disconnected. A
    route that starts or follows something checks `is_head` first. FastAPI's own routes would answer 405.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a HEAD request on as GET, and send only the head of the response."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return
        is_answered = False

        async def head_only(message: Message) -> None:
            nonlocal is_answered
            if is_answered:
                await asyncio.sleep(0)  # lets a route that streams without a pause notice the disconnect
                return
            await send(message)
            if message["type"] == "http.response.start":
                is_answered = True
                await send({"type": "http.response.body", "body": b""})

        async def until_answered() -> Message:
            return {"type": "http.disconnect"} if is_answered else await receive()

        await self.app({**scope, "method": "GET", _IS_HEAD: True}, until_answered, head_only)


def is_head(connection: HTTPConnection) -> bool:
    """Return whether only headers are requested, so that nothing is to be started or followed for them."""
    return bool(connection.scope.get(_IS_HEAD))
