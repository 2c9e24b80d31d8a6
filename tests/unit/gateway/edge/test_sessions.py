"""Sessions, principals and form tokens."""

from typing import Any

import pytest
from starlette.requests import Request

from services.common.models.errors import BinderyError
from services.gateway.edge.origins import Origins
from services.gateway.edge.request_scope import SCOPE_KEY, EdgeScope
from services.gateway.edge.sessions import check_form_token, form_token, principal
from services.gateway.settings import GatewaySettings
from tests.support.fake_gateway import OWN, edge_client
from tests.support.settings import settings_for


def _request(cookie: str = "", *, headers: dict[str, str] | None = None, **settings: Any) -> Request:
    values = settings_for(GatewaySettings, {"installation_secret": "s", "public_url": OWN} | settings)
    all_headers = {"cookie": cookie, **(headers or {})}
    raw = [(name.encode(), value.encode()) for name, value in all_headers.items() if value]
    server = ("127.0.0.1", 8585)
    scope = {"type": "http", "headers": raw, "scheme": "http", "server": server, "path": "/"}
    return Request(scope | {SCOPE_KEY: EdgeScope(values, Origins(values))})


COOKIE = "bindery_session=" + "a" * 32


async def test_a_page_sets_the_session_once() -> None:
    async with edge_client() as client:
        cookie = (await client.get("/")).headers["set-cookie"]
        assert cookie.startswith("bindery_session=")
        for attribute in ("HttpOnly", "SameSite=lax", "Path=/"):
            assert attribute in cookie
        assert "Secure" not in cookie
        assert "set-cookie" not in (await client.get("/")).headers


async def test_under_tls_the_cookie_is_bound_to_this_host() -> None:
    async with edge_client(local_mode=False, public_url="https://bindery.example") as client:
        cookie = (await client.get("/")).headers["set-cookie"]
        assert cookie.startswith("__Host-bindery_session=")
        assert "Secure" in cookie
        assert "Domain" not in cookie


def test_a_principal_follows_from_the_cookie_and_does_not_tell_it() -> None:
    assert principal(_request(COOKIE)) == principal(_request(COOKIE))
    assert principal(_request(COOKIE)).startswith("anon:")
    assert "a" * 32 not in principal(_request(COOKIE))


def test_a_cookie_that_we_did_not_make_is_replaced() -> None:
    assert principal(_request("bindery_session=short")) != principal(_request("bindery_session=short"))


def test_without_a_cookie_the_idempotency_key_stands_for_the_client() -> None:
    key = {"idempotency-key": "k" * 22}
    assert principal(_request(headers=key)) == principal(_request(headers=key))
    assert principal(_request(COOKIE, headers=key)) == principal(_request(COOKIE))
    with pytest.raises(BinderyError) as raised:
        principal(_request(headers={"idempotency-key": "k" * 21}))
    assert raised.value.code == "idempotency_key_too_short"


def test_with_neither_each_request_stands_alone() -> None:
    request = _request()
    assert principal(request) == principal(request) != principal(_request())


# Form tokens


def test_a_form_is_accepted_from_the_session_that_it_was_made_for() -> None:
    token = form_token(_request(COOKIE))
    assert check_form_token(_request(COOKIE), token) == token.partition(".")[0]
    assert form_token(_request(COOKIE)) != token


@pytest.mark.parametrize("token", ["", ".", "x.y", "ünï.cödé"])
def test_made_up_tokens_are_refused(token: str) -> None:
    with pytest.raises(BinderyError, match="Reload"):
        check_form_token(_request(COOKIE), token)


def test_a_form_of_another_session_installation_or_site_is_refused() -> None:
    token = form_token(_request(COOKIE))
    for request in (
        _request("bindery_session=" + "b" * 32),
        _request(),
        _request(COOKIE, installation_secret="other"),
        _request(COOKIE, headers={"sec-fetch-site": "same-site"}),
        _request(COOKIE, headers={"sec-fetch-site": "cross-site"}),
    ):
        with pytest.raises(BinderyError, match="Reload"):
            check_form_token(request, token)
