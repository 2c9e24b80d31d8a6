"""`bindery launch`: progress on standard error, the address alone on standard output."""

import io
import json

import pytest

from bindery.cli import main
from tests.support.scripted_gateway import READY, Gateway, event, line


def test_launch_prints_progress_and_then_the_address_alone(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway.streams = [": keepalive\n\n" + line(1) + event(2, READY)]
    assert main(["launch", "gh/jupyterhub/requirements/HEAD", "--path", "a.ipynb", "--gateway", gateway.url]) == 0
    out, err = capsys.readouterr()
    assert out == "http://127.0.0.1:9/user/x/lab/tree/a.ipynb?token=t%2F1\n"
    assert err == "line 1\nserver running\n"
    body, key = gateway.posts[0]
    assert body == {"provider": "gh", "spec": "jupyterhub/requirements/HEAD", "path": "a.ipynb"}
    assert len(key or "") == 36


def test_a_token_for_a_private_repository_is_read_from_standard_input(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway.streams = [event(1, READY)]
    monkeypatch.setattr("sys.stdin", io.StringIO("a-token\nand more\n"))
    options = ["--token-stdin", "--username", "ann", "--gateway", gateway.url]
    assert main(["launch", "gh/ann/thesis/HEAD", *options]) == 0
    body, _ = gateway.posts[0]
    assert body["credential"] == {"username": "ann", "password": "a-token"}
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert main(["launch", "gh/ann/thesis/HEAD", *options]) != 0
    assert "There is no token on standard input" in capsys.readouterr().err
    assert len(gateway.posts) == 1


def test_a_broken_stream_is_resumed_and_every_line_seen_once(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    cut_short = line(3)[:-1]  # without its end, a message doesn't count
    gateway.streams = ["retry: 10\n\n" + line(1) + line(2) + cut_short, line(3) + event(4, READY)]
    assert main(["launch", "git/x/HEAD", "--gateway", gateway.url]) == 0
    assert capsys.readouterr().err == "line 1\nline 2\nline 3\nserver running\n"
    assert gateway.resumed_from == [None, "l1~2~0"]


def test_a_place_in_the_queue_is_told_and_nobody_resumes_at_it(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    place = {"phase": "waiting", "message": "place 2 of 3\n", "queue": {"position": 2}}
    queue_event = f"data: {json.dumps(place)}\n\n"
    gateway.streams = ["retry: 10\n\n" + line(1) + queue_event, line(2) + event(3, READY)]
    assert main(["launch", "git/x/HEAD", "--gateway", gateway.url]) == 0
    assert capsys.readouterr().err == "line 1\nplace 2 of 3\nline 2\nserver running\n"
    assert gateway.resumed_from == [None, "l1~1~0"]


@pytest.mark.parametrize(
    ("final", "sentence"),
    [
        (
            {"phase": "failed", "error": {"title": "Not found", "detail": "No ref x.", "code": "ref_not_found"}},
            "Not found. No ref x. [ref_not_found]\n",
        ),
        (
            {
                "phase": "failed",
                "message": "No x was found.\nIt ended with exit status 1\n",
                "error": {
                    "title": "The build failed",
                    "detail": "No x was found.\nIt ended with exit status 1",
                    "code": "b",
                },
            },
            "No x was found.\nIt ended with exit status 1\nThe build failed. [b]\n",
        ),
        ({"phase": "cancelled"}, "The launch was cancelled.\n"),
    ],
)
def test_a_launch_that_does_not_succeed_says_why(
    gateway: Gateway, capsys: pytest.CaptureFixture[str], final: dict[str, object], sentence: str
) -> None:
    gateway.streams = [event(1, final)]
    assert main(["launch", "git/x/HEAD", "--gateway", gateway.url]) == 1
    assert capsys.readouterr() == ("", sentence)


def test_escapes_in_a_strangers_log_do_not_reach_the_terminal(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway.streams = [event(1, {"phase": "building", "message": "\x1b]0;title\x07\x1b[31mred"}) + event(2, READY)]
    assert main(["launch", "git/x/HEAD", "--gateway", gateway.url]) == 0
    assert capsys.readouterr().err == "]0;titlered\nserver running\n"


def test_a_refusal_is_told_in_the_gateways_words(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    gateway.refusal = (404, {"title": "Unknown provider", "detail": "There is no gx.", "code": "unknown_provider"})
    assert main(["launch", "gx/x", "--gateway", gateway.url]) == 1
    assert capsys.readouterr().err == "bindery: Unknown provider. There is no gx. [unknown_provider]\n"


def test_nobody_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["launch", "gh/a/b/HEAD", "--gateway", "http://127.0.0.1:1"]) == 1
    assert "http://127.0.0.1:1 does not answer" in capsys.readouterr().err


def test_detached_prints_the_page(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["launch", "gh/a/b/HEAD", "--detach", "--gateway", gateway.url + "/"]) == 0
    assert capsys.readouterr().out == f"{gateway.url}/launches/l1\n"
    assert gateway.posts[0][0]["detached"] is True
