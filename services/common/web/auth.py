"""Authentication between services, and of operators, by shared secrets. The network is not trusted."""

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
    """Raise `SystemExit`, with a sentence that names the missing secret, if a service lacks one that it needs."""
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


def is_operator(expected: SecretStr, token: str) -> bool:
    """Return whether a request comes from the operator: `token` is its `Bindery-Operator-Token` header.

    Raise `BinderyError("forbidden")` for a wrong token, or if the installation has no operator's token.
    """
    if not token:
        return False
    secret = expected.get_secret_value().encode()
    if not secret or not hmac.compare_digest(token.encode(), secret):
        raise BinderyError("forbidden", f"What {OPERATOR_HEADER} has is not the token of this Bindery's operator.")
    return True


def has_token(scope: Scope, expected: SecretStr) -> bool:
    """Return whether a request's bearer token is `expected`, in constant time; never if `expected` is empty."""
    header = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
    scheme, _, token = header.partition(b" ")
    secret = expected.get_secret_value().encode()
    return bool(secret) and scheme.lower() == b"bearer" and hmac.compare_digest(token.strip(), secret)


class ServiceToken:
    """Pure ASGI middleware that admits only our own services, before routing and before a body is read."""

    def __init__(self, app: ASGIApp, settings: ServiceSettings) -> None:
        self.app = app
        self._expected = settings.service_token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on if it has the service token, or else answer 401."""
        if scope["type"] == "lifespan" or has_token(scope, self._expected):
            await self.app(scope, receive, send)
            return
        detail = "Send the services' shared token (BINDERY_SERVICE_TOKEN) as a bearer token."
        await unauthorized(detail)(scope, receive, send)


def unauthorized(detail: str) -> Response:
    """Return a 401 response; `detail` says which token to send."""
    return problem_response(BinderyError("unauthorized", detail).problem, {"WWW-Authenticate": "Bearer"})
