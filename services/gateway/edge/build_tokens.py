"""Build tokens: a page has one to prove that its launch was requested there. The claims are BinderHub's, and `jti`."""

import hashlib
import secrets

import jwt
from starlette.requests import HTTPConnection

from services.common.models.errors import BinderyError
from services.common.service.clock import clock
from services.gateway.settings import GatewaySettings


def create_build_token(connection: HTTPConnection, settings: GatewaySettings, provider: str, raw_spec: str) -> str:
    """Return a token for one link, valid for `build_token_seconds`."""
    claims = {
        "exp": int(clock.now() + settings.build_token_seconds),
        "aud": f"{provider}/{raw_spec}",
        "origin": _origin_of(connection),
        "jti": secrets.token_urlsafe(16),
    }
    return jwt.encode(claims, _key(settings), algorithm="HS256")


def check_build_token(
    connection: HTTPConnection, settings: GatewaySettings, provider: str, raw_spec: str, token: str
) -> str:
    """Return the token's `jti`, or an empty string if it has none.

    Raise `BinderyError("forbidden")` for a token of another link or origin, and for one that has expired.
    """
    refusal = BinderyError("forbidden", "Invalid build token: reload the page that launches this.")
    try:
        claims = jwt.decode(
            token,
            _key(settings),
            algorithms=["HS256"],
            audience=f"{provider}/{raw_spec}",
            options={"require": ["exp", "aud"], "verify_exp": False},
        )
    except jwt.InvalidTokenError as error:
        raise refusal from error

    has_expired = float(claims["exp"]) <= clock.now()  # another gateway, whose host has another clock, may have made it
    if has_expired or claims.get("origin") != _origin_of(connection):
        raise refusal
    return str(claims.get("jti", ""))


def _origin_of(connection: HTTPConnection) -> str:
    origin = connection.headers.get("origin", "")
    return origin.partition("://")[2] or connection.headers.get("host", "")


def _key(settings: GatewaySettings) -> bytes:
    return hashlib.sha256(b"build-token\0" + settings.installation_secret.get_secret_value().encode()).digest()
