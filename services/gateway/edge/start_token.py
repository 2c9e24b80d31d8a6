"""The start token: it is part of the address that the gateway prints, and requests without it are refused.

Jupyter has such a token too. It is for a gateway on a machine that several people use.
"""

import hashlib
import hmac
import re
import secrets
from urllib.parse import unquote_plus, urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from services.common.models.errors import BinderyError
from services.common.service.clock import clock
from services.gateway.edge.sessions import is_secure
from services.gateway.settings import GatewaySettings

_PROGRAM_FOLDERS = ("/api/", "/build/")
_PROGRAM_PATHS = frozenset({"/health", "/livez", "/readyz", "/metrics", "/versions"})
_OPEN_PATHS = frozenset({"/health", "/livez", "/readyz", "/versions"})
_READING = frozenset({"GET", "HEAD"})
_SESSION = re.compile(r"(?P<payload>(?P<issued>[0-9]{1,12})\.[A-Za-z0-9_-]{22})\.(?P<signature>[0-9a-f]{64})")

_HOW = (
    "Open the address that `make up` printed when it started; `make url` in Bindery's folder prints it again. "
    "A program sends the token in it as a bearer token."
)


class StartToken:
    """Admits requests with the start token; if the settings have none, all requests.

    The token comes as a bearer token, as `build_token` of `/build` (an `EventSource` sends no headers), or as `token`
    in the address of a page. The last starts a session: a cookie, signed with the installation's secret, so that it
    outlives the token, which is a new one after each start.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        self._token = settings.start_token.get_secret_value()
        self._key = settings.installation_secret.get_secret_value().encode()
        # Metrics with a token of their own ask for that one alone: a program sends one token at a time.
        self._open = _OPEN_PATHS | ({"/metrics"} if settings.metrics_token.get_secret_value() else set())
        self._session_seconds = settings.start_session_seconds
        # Cookies ignore ports: two gateways on one machine must not take each other's cookie for their own.
        self._cookie = "bindery_start_" + hashlib.sha256(settings.installation_id.encode()).hexdigest()[:12]

    def admit(self, request: Request, *, with_cookies: bool) -> Response | None:
        """Return None if the request may go on, or else the redirect that starts a session.

        The token is taken out of the query of a request that goes on. `with_cookies`: whether a cookie counts.

        Raise `BinderyError("start_token_required")` for all other requests.
        """
        path = request.scope["path"]
        query = request.scope["query_string"].decode("latin-1")
        if not self._token or (request.method in _READING and path in self._open):
            return None

        query_tokens: list[str] = []
        if path.startswith("/build/"):
            rest, query_tokens = query_without(query, "build_token", self._token)
            if query_tokens:
                request.scope["query_string"] = rest.encode("latin-1")
                return None
        elif request.method in _READING and not is_for_programs(path):
            rest, query_tokens = query_without(query, "token")
            if any(self._is_token(_pasted_token(text)) for text in query_tokens):
                return self._start_session(request, own_path(request) + (f"?{rest}" if rest else ""))

        scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
        bearer = credentials.strip() if scheme.lower() == "bearer" else ""
        if self._is_token(bearer) or (with_cookies and self._has_session(request)):
            return None

        has_wrong_token = bool(bearer or query_tokens)
        wrong = "That is not the token of this Bindery: each start makes a new one. " if has_wrong_token else ""
        raise BinderyError("start_token_required", wrong + _HOW)

    def _is_token(self, text: str) -> bool:
        return hmac.compare_digest(text.encode(), self._token.encode())

    def _start_session(self, request: Request, target: str) -> Response:
        """Return a redirect to `target` that sets the session's cookie."""
        payload = f"{int(clock.now())}.{secrets.token_urlsafe(16)}"
        headers = {"cache-control": "no-store", "referrer-policy": "no-referrer"}
        response = RedirectResponse(target, status_code=303, headers=headers)
        # Lax: a badge's link on another site finds the session; other requests that such a site makes don't.
        response.set_cookie(
            self._cookie_name(request), f"{payload}.{self._signature(payload)}", max_age=int(self._session_seconds),
            httponly=True, samesite="lax", secure=is_secure(request),
        )  # fmt: skip
        return response

    def _has_session(self, request: Request) -> bool:
        # Each cookie of the name is checked: another server of this host may have set one for a path of its own.
        for pair in request.headers.get("cookie", "").split(";"):
            name, _, value = pair.strip().partition("=")
            if name == self._cookie_name(request) and self._is_session(value):
                return True
        return False

    def _is_session(self, value: str) -> bool:
        match = _SESSION.fullmatch(value)
        if not match:
            return False
        is_ours = hmac.compare_digest(match["signature"], self._signature(match["payload"]))
        return is_ours and clock.now() - int(match["issued"]) < self._session_seconds

    def _signature(self, payload: str) -> str:
        return hmac.digest(self._key, f"start-session\0{self._cookie}\0{payload}".encode(), "sha256").hex()

    def _cookie_name(self, request: Request) -> str:
        return f"__Host-{self._cookie}" if is_secure(request) else self._cookie


def is_for_programs(path: str) -> bool:
    """Return whether programs, not people, request `path`: nothing under it sets a cookie or is shown as a page."""
    return path.startswith(_PROGRAM_FOLDERS) or path in _PROGRAM_PATHS


def own_path(request: Request) -> str:
    """Return the path of a GET, percent-encoded as it came; `/` for other methods and paths that may name a host."""
    path: str = request.scope["raw_path"].partition(b"?")[0].decode("latin-1")
    if request.method not in _READING or not path.startswith("/") or path[1:2] in {"/", "\\"}:
        return "/"
    return path


def query_without(query: str, name: str, value: str | None = None) -> tuple[str, list[str]]:
    """Return `query` without its fields called `name`, and the values of these fields.

    If `value` is set, only fields with that value are taken out. The other fields stay as they are written.
    """
    other_fields = []
    values = []
    for field in query.split("&"):
        encoded_name, _, encoded_text = field.partition("=")
        text = unquote_plus(encoded_text)
        is_match = value is None or hmac.compare_digest(text.encode(), value.encode())
        if unquote_plus(encoded_name) == name and is_match:
            values.append(text)
        else:
            other_fields.append(field)
    return "&".join(other_fields), values


def _pasted_token(text: str) -> str:
    """Return the token in a pasted text, which is the token itself or an address that contains it."""
    if "://" not in text:
        return text.strip()
    _, tokens = query_without(urlsplit(text.strip()).query, "token")
    return tokens[0] if tokens else ""
