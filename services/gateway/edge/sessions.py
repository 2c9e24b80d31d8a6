"""Who asks, as far as we can tell: an anonymous session in a cookie, and forms that only it can send."""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

from starlette.requests import HTTPConnection
from starlette.responses import Response

from services.common.models.errors import BinderyError
from services.gateway.settings import GatewaySettings

COOKIE = "bindery_session"
_SESSION = re.compile(r"[A-Za-z0-9_-]{22,64}")
_STATE = "bindery_session"
_KEY_MIN_LENGTH = 22


@dataclass(frozen=True)
class Session:
    """One browser's random name, and whether its cookie has still to be set."""

    name: str
    is_new: bool

    @property
    def principal(self) -> str:
        """`anon:` and a hash of the cookie: what records hold is of no use to who reads them."""
        return "anon:" + hashlib.sha256(b"session\0" + self.name.encode()).hexdigest()[:32]


def _settings(connection: HTTPConnection) -> GatewaySettings:
    settings = connection.app.state.settings
    assert isinstance(settings, GatewaySettings)  # noqa: S101
    return settings


def is_secure(connection: HTTPConnection) -> bool:
    """Whether the client's connection is under TLS, here or at the proxy in front of us."""
    return _settings(connection).public_url.lower().startswith("https://") or connection.scope.get("scheme") == "https"


def _cookie_name(connection: HTTPConnection) -> str:
    """Under TLS the browser itself guards the name: no other host, path or plain connection can set it."""
    return f"__Host-{COOKIE}" if is_secure(connection) else COOKIE


def session_of(connection: HTTPConnection) -> Session:
    """The session of the request's cookie, or a new one for the whole of this request."""
    known = getattr(connection.state, _STATE, None)
    if isinstance(known, Session):
        return known
    given = connection.cookies.get(_cookie_name(connection), "")
    session = Session(given, False) if _SESSION.fullmatch(given) else Session(secrets.token_urlsafe(24), True)
    setattr(connection.state, _STATE, session)
    return session


def keep_session(connection: HTTPConnection, response: Response) -> None:
    """Set the cookie on `response` where the browser does not have it yet."""
    session = session_of(connection)
    if session.is_new:
        response.set_cookie(
            _cookie_name(connection), session.name, httponly=True, samesite="lax", secure=is_secure(connection)
        )


def principal(connection: HTTPConnection) -> str:
    """`anon:<…>`: from the session's cookie; without one, from the Idempotency-Key; without both, of this request only.

    Raises `BinderyError("idempotency_key_too_short")` for a key under 22 characters that would have to stand alone.
    """
    session = session_of(connection)
    key = connection.headers.get("idempotency-key", "")
    if not session.is_new or not key:
        return session.principal
    if len(key) < _KEY_MIN_LENGTH:
        raise BinderyError(
            "idempotency_key_too_short", f"Send a UUID or something as random: {_KEY_MIN_LENGTH} characters or more."
        )
    return "anon:" + hashlib.sha256(b"key\0" + key.encode()).hexdigest()[:32]


def _signature(connection: HTTPConnection, nonce: str) -> str:
    key = _settings(connection).installation_secret.get_secret_value().encode()
    text = f"form\0{session_of(connection).name}\0{nonce}".encode()
    return hmac.digest(key, text, "sha256").hex()[:40]


def form_token(connection: HTTPConnection) -> str:
    """What a form of ours must send back: `<nonce>.<signature over it and the session>`."""
    nonce = secrets.token_urlsafe(16)
    return f"{nonce}.{_signature(connection, nonce)}"


def check_form_token(connection: HTTPConnection, token: str) -> str:
    """The token's nonce, one for each form that was shown: a form sent twice can be told by it.

    Raises `BinderyError("forbidden")` where the form was not made for this session, or where the browser says that
    another site sent it.
    """
    nonce, _, signature = token.partition(".")
    expected = _signature(connection, nonce)
    from_elsewhere = connection.headers.get("sec-fetch-site", "none") not in {"same-origin", "none"}
    known = not session_of(connection).is_new
    if from_elsewhere or not known or not hmac.compare_digest(signature.encode(), expected.encode()):
        raise BinderyError(
            "forbidden", "This form was not made for this browser, or is too old. Reload its page and send it again."
        )
    return nonce
