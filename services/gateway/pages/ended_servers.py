"""The answer to requests for a server that has ended, which the hub's proxy hands on to `/ended`.

The page is shown at an address of the server, on the host of all servers. So it brings its style along, has whole
addresses in its links, and neither reads nor sets a cookie there.
"""

from base64 import b64encode
from typing import NamedTuple

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from services.common.models.errors import BinderyError
from services.common.models.problem import PROBLEM_MEDIA_TYPE
from services.gateway.pages.renderer import Pages
from services.gateway.pages.static_assets import STATIC_TYPES, static_file

ENDED_PATH = "/ended"
UNANSWERED = b"unanswered"
"""The whole query of a request for a server that still has a route but does not answer."""

_ENDED = "Servers end when nobody uses them for a while, and at the latest after some hours. Launch it again."
_SILENT = "It does not answer, so it has probably ended. Try again in a few seconds, or launch it again."

_FOR_ALL_SITES = [
    # It is the same for everybody, so every page may read it: one that used the server (Thebe) must tell its reader.
    (b"access-control-allow-origin", b"*"),
    (b"cache-control", b"no-store"),
    (b"vary", b"accept"),
]
_PREFLIGHT = [
    *_FOR_ALL_SITES,
    (b"access-control-allow-headers", b"authorization, *"),
    (b"access-control-allow-methods", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
]
_FOR_BROWSERS = [
    (b"content-security-policy", b"default-src 'none'; style-src data:; img-src data:; form-action 'none'"),
    # The server's token may be in its address.
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
]


class _Answer(NamedTuple):
    status: int
    content_type: str
    body: bytes


class EndedServers:
    """Plain ASGI app ahead of all middleware: whatever comes to `/ended` is answered from prebuilt bytes.

    The requests were meant for users' servers. So there is no start token, no check of host or origin, and any method
    is answered with status 424, save the preflights of CORS: a browser shows a page the answer to its request only
    after one that succeeded.
    """

    def __init__(self, app: ASGIApp, pages: Pages) -> None:
        self.app = app
        self._pages = pages
        self._answers = self._render()

    def _render(self) -> dict[tuple[bool, bool], _Answer]:
        """Return the answers, by whether a page is wanted and whether the server still has a route."""
        answers = {}
        for has_route, detail in ((False, _ENDED), (True, _SILENT)):
            problem = BinderyError("server_ended", detail).problem
            page = self._pages.ended(problem, has_route=has_route, static=_data_url)
            body = problem.model_dump_json().encode()
            answers[True, has_route] = _Answer(problem.status, "text/html; charset=utf-8", page.encode())
            answers[False, has_route] = _Answer(problem.status, PROBLEM_MEDIA_TYPE, body)
        return answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that the proxy has handed on; pass everything else on."""
        if scope["type"] != "http" or scope["path"] != ENDED_PATH:
            await self.app(scope, receive, send)
            return

        headers = Headers(scope=scope)
        if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            await send({"type": "http.response.start", "status": 204, "headers": _PREFLIGHT})
            await send({"type": "http.response.body", "body": b""})
            return

        if self._pages.settings.dev_mode:
            self._answers = self._render()
        answer = self._answers["text/html" in headers.get("accept", ""), scope["query_string"] == UNANSWERED]
        about_body = [
            (b"content-type", answer.content_type.encode()),
            (b"content-length", str(len(answer.body)).encode()),
        ]
        start = [*about_body, *_FOR_ALL_SITES, *_FOR_BROWSERS]
        await send({"type": "http.response.start", "status": answer.status, "headers": start})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else answer.body})


def _data_url(name: str) -> str:
    """Return a static file as the address that holds it."""
    suffix = "." + name.rpartition(".")[2]
    content_type = STATIC_TYPES[suffix].replace(" ", "")
    return f"data:{content_type};base64,{b64encode(static_file(name)).decode()}"
