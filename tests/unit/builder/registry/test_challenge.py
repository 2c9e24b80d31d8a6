"""What a registry wants to be told is read from its header, however it is written."""

import pytest

from services.builder.registry.challenge import Challenge, best_challenge, parse_challenges

HUB = {"realm": "https://auth.docker.io/token", "service": "registry.docker.io", "scope": "repository:a/b:pull,push"}


@pytest.mark.parametrize(
    "header",
    [
        'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push"',
        'bearer  scope="repository:a/b:pull,push" ,  service=registry.docker.io, REALM = "https://auth.docker.io/token"',
        'Bearer realm="https:\\//auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push",',
    ],
)
def test_parameters_stand_in_any_order_quoted_or_not(header: str) -> None:
    assert parse_challenges([header]) == [Challenge("bearer", HUB)]


@pytest.mark.parametrize(
    "headers",
    [
        ['Basic realm="a, Bearer b"', 'Bearer realm="https://x/t"'],
        ['Basic realm="a, Bearer b", Bearer realm="https://x/t"'],
        ['Negotiate, Bearer realm="https://x/t", Basic realm=a'],
    ],
)
def test_a_token_is_chosen_before_a_password(headers: list[str]) -> None:
    assert best_challenge(headers) == Challenge("bearer", {"realm": "https://x/t"})


def test_a_password_is_chosen_where_the_token_has_no_realm() -> None:
    assert best_challenge(['Bearer service="x"', 'Basic realm="y"']) == Challenge("basic", {"realm": "y"})


@pytest.mark.parametrize(
    "headers", [[], [""], ["Negotiate"], ["Bearer"], ['"'], [",,, ="], ['Bearer realm="'], ["\x00é"]]
)
def test_without_a_known_challenge_there_is_none(headers: list[str]) -> None:
    assert best_challenge(headers) is None
