"""The start token: lets in who started this gateway on a machine that others use too, as Jupyter's token does."""

import hashlib
import hmac
import re
import secrets
import time
from urllib.parse import unquote_plus, urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from services.common.models.errors import BinderyError
from services.gateway.edge.sessions import is_secure
from services.gateway.settings import GatewaySettings

_PROGRAM_FOLDERS = ("/api/", "/build/")
_PROGRAM_PATHS = frozenset({"/health", "/metrics", "/versions"})
_OPEN_PATHS = frozenset({"/health", "/versions"})
_READING = frozenset({"GET", "HEAD"})
_SESSION = re.compile(r"(?P<signed>(?P<issued>[0-9]{1,12})\.[A-Za-z0-9_-]{22})\.(?P<signature>[0-9a-f]{64})")

_HOW = (
    "Open the address that `make up` printed when it started; `make url` in Bindery's folder prints it again. "
    "A program sends the token in it as a bearer token."
)


def is_for_programs(path: str) -> bool:
    """Whether programs ask for `path`, and not people: nothing under it sets a cookie or is shown as a page."""
    return path.startswith(_PROGRAM_FOLDERS) or path in _PROGRAM_PATHS


def own_path(request: Request) -> str:
    """The path of a GET, percent-encoded as it came; `/` for other methods, and for what could name another host."""
    path: str = request.scope["raw_path"].partition(b"?")[0].decode("latin-1")
    if request.method not in _READING or not path.startswith("/") or path[1:2] in {"/", "\\"}:
        return "/"
    return path


def query_without(query: str, name: str, value: str | None = None) -> tuple[str, list[str]]:
    """`query` without the fields called `name` (only those that are `value`, if given), and what stood in them.

    The other fields stay as they are written.
    """
    kept, taken = [], []
    for field in query.split("&"):
        written, _, text = field.partition("=")
        found = unquote_plus(text)
        if unquote_plus(written) == name and (value is None or hmac.compare_digest(found.encode(), value.encode())):
            taken.append(found)
        else:
            kept.append(field)
    return "&".join(kept), taken


def _pasted(text: str) -> str:
    """The token in what somebody pasted: itself, or the address that has it."""
    return (query_without(urlsplit(text.strip()).query, "token")[1] or [""])[0] if "://" in text else text.strip()


class StartToken:
    """Decides who may use the gateway. Without a token in the settings everybody may.

    The token comes as a bearer token, as `build_token` of `/build` (an `EventSource` sends no headers), or as `token`
    in the address of a page. The last makes a session: a cookie, signed with the installation's secret, so that it
    outlives a token that is made anew at each start.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        self._token = settings.start_token.get_secret_value()
        self._key = settings.installation_secret.get_secret_value().encode()
        # Metrics with a token of their own ask for that one alone: a program sends no two.
        self._open = _OPEN_PATHS | ({"/metrics"} if settings.metrics_token.get_secret_value() else set())
        self._session_seconds = settings.start_session_seconds
        # Cookies know no ports: two gateways of one machine must not take each other's for their own.
        self._cookie = "bindery_start_" + hashlib.sha256(settings.installation_id.encode()).hexdigest()[:12]

    def admit(self, request: Request, *, with_cookies: bool) -> Response | None:
        """None: the request may go on, and the token is gone from its query. Else the redirect that makes a session.

        `with_cookies`: whether a cookie counts. Raises `BinderyError("start_token_required")` for everybody else.
        """
        path, query = request.scope["path"], request.scope["query_string"].decode("latin-1")
        if not self._token or (request.method in _READING and path in self._open):
            return None
        if path.startswith("/build/"):
            rest, given = query_without(query, "build_token", self._token)
            if given:
                request.scope["query_string"] = rest.encode("latin-1")
                return None
        elif request.method in _READING and not is_for_programs(path):
            rest, given = query_without(query, "token")
            if any(self._is_token(_pasted(one)) for one in given):
                return self._opened(request, own_path(request) + (f"?{rest}" if rest else ""))
        else:
            given = []
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        bearer = bearer.strip() if scheme.lower() == "bearer" else ""
        if self._is_token(bearer) or (with_cookies and self._has_session(request)):
            return None
        wrong = "That is not the token of this Bindery: each start makes a new one. " if bearer or given else ""
        raise BinderyError("start_token_required", wrong + _HOW)

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self._token.encode())

    def _opened(self, request: Request, target: str) -> Response:
        """A redirect to `target` that sets the session's cookie."""
        signed = f"{int(time.time())}.{secrets.token_urlsafe(16)}"
        headers = {"cache-control": "no-store", "referrer-policy": "no-referrer"}
        response = RedirectResponse(target, status_code=303, headers=headers)
        # Lax: a badge's link on another site finds the session, and nothing else that another site asks for does.
        response.set_cookie(
            self._cookie_name(request), f"{signed}.{self._signature(signed)}", max_age=int(self._session_seconds),
            httponly=True, samesite="lax", secure=is_secure(request),
        )  # fmt: skip
        return response

    def _has_session(self, request: Request) -> bool:
        # Each cookie of the name is looked at: another server of this host may have set one for a path of its own.
        for pair in request.headers.get("cookie", "").split(";"):
            name, _, value = pair.strip().partition("=")
            if name == self._cookie_name(request) and self._is_session(value):
                return True
        return False

    def _is_session(self, value: str) -> bool:
        if not (found := _SESSION.fullmatch(value)):
            return False
        is_ours = hmac.compare_digest(found["signature"], self._signature(found["signed"]))
        return is_ours and time.time() - int(found["issued"]) < self._session_seconds

    def _signature(self, signed: str) -> str:
        return hmac.digest(self._key, f"start-session\0{self._cookie}\0{signed}".encode(), "sha256").hex()

    def _cookie_name(self, request: Request) -> str:
        return f"__Host-{self._cookie}" if is_secure(request) else self._cookie
