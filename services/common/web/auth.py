"""The shared secrets, and those by which services know each other. Being on the same network proves nothing."""

import hmac

from pydantic import SecretStr
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from services.common.models.errors import BinderyError
from services.common.service.settings import ServiceSettings
from services.common.web.problems import problem_response

SECRET_MIN_LENGTH = 32
SIGNING = frozenset({"gateway", "launcher"})
"""Services that sign with the installation's secret, or derive names from it."""


def require_secrets(settings: ServiceSettings, service: str) -> None:
    """End a service that was started without its secrets: `SystemExit`, with a sentence that says which."""
    if not settings.service_token.get_secret_value():
        raise SystemExit(
            f"The {service} can't start: set BINDERY_SERVICE_TOKEN to a secret of your own, the same for every service."
        )
    if service in SIGNING and len(settings.installation_secret.get_secret_value()) < SECRET_MIN_LENGTH:
        raise SystemExit(
            f"The {service} can't start: set BINDERY_INSTALLATION_SECRET to a secret of {SECRET_MIN_LENGTH} characters "
            "or more, the same for gateway and launcher, as `openssl rand -hex 32` makes one."
        )


OPERATOR_HEADER = "Bindery-Operator-Token"


def is_operator(expected: SecretStr, given: str) -> bool:
    """Whether a request is the operator's: `given` is what it has in the header of that name.

    Raises `BinderyError("forbidden")` for a token that is not the operator's, or where the installation has none.
    """
    if not given:
        return False
    secret = expected.get_secret_value().encode()
    if not secret or not hmac.compare_digest(given.encode(), secret):
        raise BinderyError("forbidden", f"What {OPERATOR_HEADER} has is not the token of this Bindery's operator.")
    return True


def has_token(scope: Scope, expected: SecretStr) -> bool:
    """Whether a request's bearer token is `expected`; never where that is empty. All others take the same time."""
    header = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
    scheme, _, given = header.partition(b" ")
    secret = expected.get_secret_value().encode()
    return bool(secret) and scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), secret)


class ServiceToken:
    """Pure ASGI middleware that lets only our own services in: before the route is looked for, or any body read."""

    def __init__(self, app: ASGIApp, settings: ServiceSettings) -> None:
        self.app, self._expected = app, settings.service_token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or has_token(scope, self._expected):
            await self.app(scope, receive, send)
            return
        said = "Send the services' shared token (BINDERY_SERVICE_TOKEN) as a bearer token."
        await unauthorized(said)(scope, receive, send)


def unauthorized(said: str) -> Response:
    """The answer to who has not the token that `said` asks for."""
    return problem_response(BinderyError("unauthorized", said).problem, {"WWW-Authenticate": "Bearer"})
