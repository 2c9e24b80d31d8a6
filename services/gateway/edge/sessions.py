"""Principals: an anonymous session in a cookie, and form tokens that only this session can send back."""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

from starlette.requests import HTTPConnection
from starlette.responses import Response

from services.common.models.errors import BinderyError
from services.gateway.edge.request_scope import edge_scope

COOKIE = "bindery_session"
_SESSION = re.compile(r"[A-Za-z0-9_-]{22,64}")
_STATE = "bindery_session"
_KEY_MIN_LENGTH = 22


@dataclass(frozen=True)
class Session:
    """One browser's random name, and whether its cookie still has to be set."""

    name: str
    is_new: bool

    @property
    def principal(self) -> str:
        """`anon:` and a hash of the cookie, so that nobody can use a cookie read from a record."""
        return "anon:" + hashlib.sha256(b"session\0" + self.name.encode()).hexdigest()[:32]


def is_secure(connection: HTTPConnection) -> bool:
    """Return whether the client's connection uses TLS, here or at the proxy in front of us."""
    public_url = edge_scope(connection).settings.public_url
    return public_url.lower().startswith("https://") or connection.scope.get("scheme") == "https"


def session_of(connection: HTTPConnection) -> Session:
    """Return the session of the request's cookie, or a new one that the whole request shares."""
    cached = getattr(connection.state, _STATE, None)
    if isinstance(cached, Session):
        return cached

    cookie = connection.cookies.get(_cookie_name(connection), "")
    is_valid = _SESSION.fullmatch(cookie) is not None
    session = Session(cookie if is_valid else secrets.token_urlsafe(24), is_new=not is_valid)
    setattr(connection.state, _STATE, session)
    return session


def keep_session(connection: HTTPConnection, response: Response) -> None:
    """Set the session's cookie on `response` if the browser does not have it yet."""
    session = session_of(connection)
    if session.is_new:
        response.set_cookie(
            _cookie_name(connection), session.name, httponly=True, samesite="lax", secure=is_secure(connection)
        )


def principal(connection: HTTPConnection) -> str:
    """Return `anon:<…>`, from the session's cookie or else the Idempotency-Key; without both, for this request only.

    Raise `BinderyError("idempotency_key_too_short")` for a key under 22 characters in a request without a cookie.
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


def form_token(connection: HTTPConnection) -> str:
    """Return a token that a form of ours must send back: `<nonce>.<signature over it and the session>`."""
    nonce = secrets.token_urlsafe(16)
    return f"{nonce}.{_signature(connection, nonce)}"


def check_form_token(connection: HTTPConnection, token: str) -> str:
    """Return the token's nonce, which is unique to one rendered form and so identifies a form that is sent twice.

    Raise `BinderyError("forbidden")` if the form was not made for this session, or if the browser says that another
    site sent it.
    """
    nonce, _, signature = token.partition(".")
    expected = _signature(connection, nonce)
    is_from_elsewhere = connection.headers.get("sec-fetch-site", "none") not in {"same-origin", "none"}
    is_new_session = session_of(connection).is_new
    is_signed = hmac.compare_digest(signature.encode(), expected.encode())
    if is_from_elsewhere or is_new_session or not is_signed:
        raise BinderyError(
            "forbidden", "This form was not made for this browser, or is too old. Reload its page and send it again."
        )
    return nonce


def _cookie_name(connection: HTTPConnection) -> str:
    """Return the cookie's name. Under TLS its prefix lets no other host, path or plain connection set it."""
    return f"__Host-{COOKIE}" if is_secure(connection) else COOKIE


def _signature(connection: HTTPConnection, nonce: str) -> str:
    key = edge_scope(connection).settings.installation_secret.get_secret_value().encode()
    text = f"form\0{session_of(connection).name}\0{nonce}".encode()
    return hmac.digest(key, text, "sha256").hex()[:40]
