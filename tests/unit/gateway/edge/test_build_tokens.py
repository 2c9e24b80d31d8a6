"""Build tokens: for one link, for a while, for where they were made."""

import jwt
import pytest
from starlette.requests import Request

from services.common.models.errors import BinderyError
from services.gateway.edge.build_tokens import check_build_token, create_build_token
from services.gateway.settings import GatewaySettings
from tests.support.settings import settings_for

SPEC = "https%3A%2F%2Fexample.org%2Frepo/HEAD"


def request_of(host: str = "bindery.example", origin: str = "") -> Request:
    headers = [(b"host", host.encode())] + ([(b"origin", origin.encode())] if origin else [])
    return Request({"type": "http", "method": "GET", "path": "/", "headers": headers, "query_string": b""})


def settings(**changes: object) -> GatewaySettings:
    return settings_for(GatewaySettings, {"installation_secret": "one secret of an installation"} | changes)


def test_a_token_is_good_for_its_link() -> None:
    token = create_build_token(request_of(), settings(), "git", SPEC)
    assert check_build_token(request_of(), settings(), "git", SPEC, token)


def test_each_token_has_a_name_of_its_own() -> None:
    names = {
        check_build_token(
            request_of(), settings(), "git", SPEC, create_build_token(request_of(), settings(), "git", SPEC)
        )
        for _ in range(3)
    }
    assert len(names) == 3


@pytest.mark.parametrize(
    ("provider", "spec", "request_"),
    [
        ("gh", SPEC, request_of()),
        ("git", SPEC.replace("repo", "other"), request_of()),
        ("git", SPEC + "/", request_of()),
        ("git", SPEC, request_of(host="elsewhere.example")),
        ("git", SPEC, request_of(origin="https://elsewhere.example")),
    ],
)
def test_a_token_of_something_else_is_refused(provider: str, spec: str, request_: Request) -> None:
    token = create_build_token(request_of(), settings(), "git", SPEC)
    with pytest.raises(BinderyError, match="Invalid build token"):
        check_build_token(request_, settings(), provider, spec, token)


def test_a_token_ends() -> None:
    token = create_build_token(request_of(), settings().model_copy(update={"build_token_seconds": -1}), "git", SPEC)
    with pytest.raises(BinderyError, match="Invalid build token"):
        check_build_token(request_of(), settings(), "git", SPEC, token)


def test_a_token_signed_by_another_is_refused() -> None:
    token = jwt.encode({"aud": f"git/{SPEC}", "exp": 4e9, "origin": "bindery.example"}, b"x" * 32, algorithm="HS256")
    with pytest.raises(BinderyError, match="Invalid build token"):
        check_build_token(request_of(), settings(), "git", SPEC, token)
