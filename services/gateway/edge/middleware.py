"""The outer edge of the gateway: it checks hosts, tokens and sites, and sets headers for browsers."""

from collections.abc import Iterable
from typing import Protocol

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.common.models.errors import BinderyError
from services.common.web.problems import problem_response
from services.gateway.edge.origins import Origins
from services.gateway.edge.request_scope import SCOPE_KEY, EdgeScope
from services.gateway.edge.start_token import StartToken, is_for_programs, own_path
from services.gateway.settings import GatewaySettings

_READING = frozenset({"GET", "HEAD", "OPTIONS"})

_READABLE_FOLDERS = ("/build/", "/api/")
_READABLE_PATHS = frozenset({"/versions", "/health", "/livez", "/readyz"})

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


class RefusalResponses(Protocol):
    """Renders refusals in the form that the client asked for, as pages or streams, which the edge does not know."""

    def refusal(self, request: Request, error: BinderyError) -> Response:
        """Return the response to a refused request."""
        ...

    def start_token_required(self, request: Request, error: BinderyError) -> Response:
        """Return the response to a request without the start token."""
        ...


class Edge:
    """Pure ASGI middleware, the first that a request meets after the static assets.

    It refuses host names that are not ours (in local mode), requests without the start token (if there is one), and
    then requests from other sites, before anything of a request's body is read. It answers CORS preflights, and sets
    the headers of CORS and of browser security.
    """

    def __init__(self, app: ASGIApp, settings: GatewaySettings, refusals: RefusalResponses) -> None:
        self.app = app
        self._origins = Origins(settings)
        self._scope = EdgeScope(settings, self._origins)
        self._start_token = StartToken(settings)
        self._refusals = refusals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        scope[SCOPE_KEY] = self._scope
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._origins.knows_host(scope, host):
            await _unknown_host(host)(scope, receive, send)
            return

        page_origin = self._origins.page_origin(host)
        if page_origin and not is_for_programs(scope["path"]):
            await _redirect_to_page_origin(Request(scope), page_origin)(scope, receive, send)
            return

        cors = self._cors_headers(scope["path"], headers.get("origin", ""))
        if scope["method"] == "OPTIONS" and "access-control-request-method" in headers and cors:
            await Response(status_code=204, headers=_preflight_headers(dict(cors)))(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                _set_headers(scope["path"], MutableHeaders(scope=message), cors)
            await send(message)

        respond = self._edge_response(Request(scope), with_cookies=not page_origin) or self.app
        await respond(scope, receive, send_with_headers)

    def _edge_response(self, request: Request, *, with_cookies: bool) -> Response | None:
        """Return the edge's own response: a redirect that starts a session, or a refusal. None: a route answers."""
        try:
            redirect = self._start_token.admit(request, with_cookies=with_cookies)
        except BinderyError as error:
            return self._refusals.start_token_required(request, error)
        if redirect or request.method in _READING:
            return redirect

        try:
            self._origins.refuse_cross_site(request)
        except BinderyError as error:
            return self._refusals.refusal(request, error)
        return None

    def _cors_headers(self, path: str, origin: str) -> list[tuple[str, str]]:
        """Return the CORS headers of a response on `path` to `origin`; none if only our own pages may read it."""
        if not path.startswith(_READABLE_FOLDERS) and path not in _READABLE_PATHS:
            return []

        # BinderHub lets every site read `/versions` unless it is configured otherwise.
        is_open_to_all = path == "/versions" and not self._origins.allowed and not self._origins.local
        if self._origins.any_allowed or is_open_to_all:
            return [("access-control-allow-origin", "*"), ("access-control-expose-headers", _EXPOSED_HEADERS)]

        if not self._origins.allowed:
            return []
        if not origin or not self._origins.allows(origin):
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


def _redirect_to_page_origin(request: Request, origin: str) -> Response:
    """Redirect a page that was requested under another name of this machine: cookies are set under one name only."""
    if request.method not in {"GET", "HEAD"}:
        return _unknown_host(request.headers["host"])
    query = request.scope["query_string"].decode("latin-1")
    target = origin + own_path(request) + (f"?{query}" if query else "")
    return RedirectResponse(target, headers={"cache-control": "no-store", "referrer-policy": "no-referrer"})


def _preflight_headers(cors: dict[str, str]) -> dict[str, str]:
    if "access-control-allow-origin" not in cors:
        return cors
    return cors | {
        "access-control-allow-headers": _ALLOWED_HEADERS,
        "access-control-allow-methods": _ALLOWED_METHODS,
        "access-control-max-age": _PREFLIGHT_SECONDS,
    }


def _set_headers(path: str, headers: MutableHeaders, cors: Iterable[tuple[str, str]]) -> None:
    """Add the headers of CORS and of browser security to a response."""
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
