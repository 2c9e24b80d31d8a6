"""What every request passes before its route, in each service: a bound of its body, and HEAD asked as GET is."""

import asyncio

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_BODY_HEADERS = frozenset({b"content-length", b"transfer-encoding"})
_IS_HEAD = "bindery.is_head"


class BoundedBodies:
    """Pure ASGI middleware: a request whose body is larger than `max_bytes` is ended as somebody reads it.

    One that says so itself is not read at all. What reads it raises `HTTPException(413)`, the one kind of exception
    that FastAPI passes on from there; so the answer is a problem, or a page, as any other error's.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app, self._max_bytes = app, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        announced = _announced_bytes(scope) if scope["type"] == "http" else 0
        if announced == 0:
            await self.app(scope, receive, send)
            return
        taken = 0

        async def bounded() -> Message:
            nonlocal taken
            if (announced or 0) <= self._max_bytes:
                message = await receive()
                taken += len(message.get("body", b""))
                if taken <= self._max_bytes:
                    return message
            raise HTTPException(413, f"A request may have {self._max_bytes} bytes at most.")

        await self.app(scope, bounded, send)


def _announced_bytes(scope: Scope) -> int | None:
    """How large a body is by its headers: 0 where there is none, None where they don't say."""
    found = {name: value for name, value in scope["headers"] if name in _BODY_HEADERS}
    if not found:
        return 0
    length = found.get(b"content-length", b"")
    return int(length[:20]) if length.isdigit() and b"transfer-encoding" not in found else None


class HeadRequests:
    """Pure ASGI middleware: HEAD is answered wherever GET is, with the same headers and no body (RFC 9110, 9.3.2).

    Its route is run as GET's, up to the head of the answer: then the connection ends as far as the route can see. One
    that begins or follows something asks `is_head` first. FastAPI's own routes would answer 405.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return
        is_answered = False

        async def head_only(message: Message) -> None:
            nonlocal is_answered
            if is_answered:
                await asyncio.sleep(0)  # so that who streams without a pause hears that nobody listens
                return
            await send(message)
            if message["type"] == "http.response.start":
                is_answered = True
                await send({"type": "http.response.body", "body": b""})

        async def until_answered() -> Message:
            return {"type": "http.disconnect"} if is_answered else await receive()

        await self.app({**scope, "method": "GET", _IS_HEAD: True}, until_answered, head_only)


def is_head(connection: HTTPConnection) -> bool:
    """Whether only the headers of the answer are asked for: nothing is to be begun or followed for them."""
    return bool(connection.scope.get(_IS_HEAD))
