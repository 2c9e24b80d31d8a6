"""The Python client, against a gateway of the tests that speaks the wire."""

import json

import pytest

from bindery.cli import main
from bindery.client import Client, GatewayError, split_spec
from tests.support.scripted_gateway import Gateway, line


def test_a_stream_that_never_comes_back_is_given_up(gateway: Gateway) -> None:
    gateway.streams = ["retry: 10\n\n" + line(1)]
    with Client(gateway.url, patience_seconds=0.3) as bindery, pytest.raises(GatewayError, match="is lost"):
        list(bindery.events("l1"))
    assert len(gateway.resumed_from) > 2


def test_no_proxy_gets_the_token(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINDERY_START_TOKEN", "of-the-environment")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with Gateway() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        main(["launch", "gh/a/b/HEAD", "--detach", "--gateway", gateway.url])
    assert gateway.authorizations == ["Bearer of-the-environment"]


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("gh/org/repo/HEAD", ("gh", "org/repo/HEAD")),
        ("git/https%3A%2F%2Fa.org%2Fb.git/main", ("git", "https%3A%2F%2Fa.org%2Fb.git/main")),
        ("http://host/base/v2/gh/org/repo/v1?urlpath=lab", ("gh", "org/repo/v1")),
    ],
)
def test_a_spec_keeps_its_spelling(argument: str, expected: tuple[str, str]) -> None:
    assert split_spec(argument) == expected


@pytest.mark.parametrize("argument", ["gh", "gh/", "/", "", "https://host/nothing/here"])
def test_what_is_no_spec(argument: str) -> None:
    with pytest.raises(ValueError, match="is not <provider>/<spec>"):
        split_spec(argument)


def test_the_end_of_a_failed_launch_has_the_line_of_the_log_that_says_why(gateway: Gateway) -> None:
    cause = {"text": "nothing-here was not found", "after": "17-3.2", "rule": "uv:not-found"}
    error = {"title": "The build failed", "detail": "nothing-here was not found. It ended.", "code": "build_failed"}
    failed = {"phase": "failed", "message": "nothing-here was not found. It ended.\n"}
    gateway.streams = [
        f"data: {json.dumps(failed | {'error': error | {'cause': cause}})}\n\n",
        f"data: {json.dumps(failed | {'error': error | {'cause': 'of tomorrow'}})}\n\n",
    ]
    with Client(gateway.url) as bindery:
        [explained], [unexplained] = list(bindery.events("l1")), list(bindery.events("l1"))
    assert (explained.cause, explained.code) == ("nothing-here was not found", "build_failed")
    assert explained.problem == "The build failed. nothing-here was not found. It ended."
    assert unexplained.cause == ""
