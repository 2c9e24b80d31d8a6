"""The outer edge of the gateway: which hosts it answers to, which sites may read its answers, what browsers may do."""

from collections.abc import Iterable
from urllib.parse import parse_qsl

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.common.models.errors import BinderyError
from services.common.web.problems import problem_response
from services.gateway.edge.origins import SCOPE_KEY, Origins
from services.gateway.edge.start_token import StartToken, is_for_programs, own_path, query_without
from services.gateway.pages.error_pages import refusal, wants_page
from services.gateway.pages.renderer import pages_of
from services.gateway.settings import GatewaySettings
from services.gateway.streaming.stream_responses import refused_stream

_READING = frozenset({"GET", "HEAD", "OPTIONS"})

_READABLE_FOLDERS = ("/build/", "/api/")
_READABLE_PATHS = frozenset({"/versions", "/health"})

_ALLOWED_HEADERS = "accept, authorization, cache-control, content-type, idempotency-key, last-event-id"
_ALLOWED_METHODS = "GET, HEAD, POST, DELETE, OPTIONS"
_EXPOSED_HEADERS = (
    "bindery-log-position, location, retry-after, x-request-id, "
    "x-ratelimit-limit, x-ratelimit-remaining, x-ratelimit-reset"
)
_PREFLIGHT_SECONDS = "600"

_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
_HTML_HEADERS = {
    "content-security-policy": _POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    # Launch ids are in our URLs, so no other origin gets one. `no-referrer` would make browsers write
    # `Origin: null` on our own forms.
    "referrer-policy": "same-origin",
}


class Edge:
    """Pure ASGI middleware, the first that a request meets after the prebuilt replies.

    Refuses names that are not ours (on one's own machine), and who does not show the start token where there is one;
    then, before anything of their body is read, what other sites ask for. Answers CORS preflights, and sets the headers
    of CORS and of browser security.
    """

    def __init__(self, app: ASGIApp, settings: GatewaySettings) -> None:
        self.app = app
        self.origins = Origins(settings)
        self.start_token = StartToken(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self.origins.knows_host(scope, host):
            await _unknown_host(host)(scope, receive, send)
            return
        origin_of_pages = self.origins.page_origin(host)
        if origin_of_pages and not is_for_programs(scope["path"]):
            await _open_elsewhere(Request(scope), origin_of_pages)(scope, receive, send)
            return
        scope[SCOPE_KEY] = self.origins
        cors = self._cors(scope["path"], headers.get("origin", ""))
        if scope["method"] == "OPTIONS" and "access-control-request-method" in headers and cors:
            await Response(status_code=204, headers=_preflight(dict(cors)))(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                _guard(scope["path"], MutableHeaders(scope=message), cors)
            await send(message)

        try:
            opened = self.start_token.admit(Request(scope), with_cookies=not origin_of_pages)
        except BinderyError as error:
            opened = await _shut(Request(scope), error)
        if opened:
            await opened(scope, receive, guarded)
            return
        if scope["method"] in _READING:
            await self.app(scope, receive, guarded)
            return
        try:
            self.origins.refuse_cross_site(Request(scope))
        except BinderyError as error:
            await (await refusal(Request(scope), error))(scope, receive, guarded)
            return
        await self.app(scope, receive, guarded)

    def _cors(self, path: str, origin: str) -> list[tuple[str, str]]:
        """The CORS headers of an answer on `path` to `origin`; none where only our own pages may read it."""
        if not path.startswith(_READABLE_FOLDERS) and path not in _READABLE_PATHS:
            return []
        # BinderHub lets every site read `/versions` unless it is configured otherwise.
        open_to_all = path == "/versions" and not self.origins.allowed and not self.origins.local
        if self.origins.any_allowed or open_to_all:
            return [("access-control-allow-origin", "*"), ("access-control-expose-headers", _EXPOSED_HEADERS)]
        if not self.origins.allowed:
            return []
        if not origin or not self.origins.allows(origin):
            return [("vary", "origin")]
        return [
            ("access-control-allow-origin", origin),
            ("access-control-expose-headers", _EXPOSED_HEADERS),
            ("vary", "origin"),
        ]


def _unknown_host(host: str) -> Response:
    error = BinderyError(
        "unknown_host",
        f"This Bindery serves one machine and does not answer to the name {host[:100]!r}. "
        "Open it by the address that it printed when it started.",
    )
    return problem_response(error.problem)


def _open_elsewhere(request: Request, origin: str) -> Response:
    """A page asked for under another name of this machine: its cookies are set under one name only."""
    if request.method not in {"GET", "HEAD"}:
        return _unknown_host(request.headers["host"])
    query = request.scope["query_string"].decode("latin-1")
    target = origin + own_path(request) + (f"?{query}" if query else "")
    return RedirectResponse(target, headers={"cache-control": "no-store", "referrer-policy": "no-referrer"})


async def _shut(request: Request, error: BinderyError) -> Response:
    """The answer to who does not show the start token."""
    if request.scope["path"].startswith("/build/") and request.method in {"GET", "HEAD"}:
        return refused_stream(error)
    if wants_page(request):
        query, _ = query_without(request.scope["query_string"].decode("latin-1"), "token")
        path = own_path(request)
        fields = parse_qsl(query, keep_blank_values=True) if path != "/" or request.scope["path"] == "/" else []
        return (await pages_of(request)).ask_for_start_token(error.problem, path, fields)
    return problem_response(error.problem, {"www-authenticate": 'Bearer realm="Bindery"'})


def _preflight(cors: dict[str, str]) -> dict[str, str]:
    if "access-control-allow-origin" not in cors:
        return cors
    return cors | {
        "access-control-allow-headers": _ALLOWED_HEADERS,
        "access-control-allow-methods": _ALLOWED_METHODS,
        "access-control-max-age": _PREFLIGHT_SECONDS,
    }


def _guard(path: str, headers: MutableHeaders, cors: Iterable[tuple[str, str]]) -> None:
    for name, value in cors:
        if name == "vary":
            headers.add_vary_header(value)
        else:
            headers[name] = value
    headers["x-content-type-options"] = "nosniff"
    if path.startswith("/api/v1/"):  # launches carry the tokens of their servers
        headers.setdefault("cache-control", "no-store")
    if headers.get("content-type", "").startswith("text/html"):
        for name, value in _HTML_HEADERS.items():
            headers.setdefault(name, value)
