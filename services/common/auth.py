"""The shared secrets, and those by which services know each other. Being on the same network proves nothing."""

import hmac

from pydantic import SecretStr
from starlette.requests import Request

from services.common.errors import BinderyError
from services.common.settings import ServiceSettings

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


class ServiceToken:
    """A FastAPI dependency that lets only our own services in.

    Raises `BinderyError("unauthorized")` where the bearer token is missing or another; the comparison takes the
    same time for every wrong token.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self._expected = settings.service_token.get_secret_value().encode()

    async def __call__(self, request: Request) -> None:
        given = request.headers.get("authorization", "").removeprefix("Bearer ").encode()
        if not self._expected or not hmac.compare_digest(given, self._expected):
            raise BinderyError(
                "unauthorized", "Send the services' shared token (BINDERY_SERVICE_TOKEN) as a bearer token."
            )
