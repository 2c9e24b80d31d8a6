"""The Python client and `bindery launch`, against a gateway of the tests that speaks the wire."""

import json
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from bindery.cli import main
from bindery.client import Client, GatewayError, split_spec
from bindery.local_gateway import running_gateway, start_token

READY = {
    "phase": "ready",
    "message": "server running\n",
    "url": "http://127.0.0.1:9/user/x/",
    "token": "t/1",
    "open_url": "http://127.0.0.1:9/user/x/lab/tree/a.ipynb?token=t%2F1",
}


class Gateway(ThreadingHTTPServer):
    """Answers a launch, and its events over several connections: each inner list is what one of them gives."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.posted: list[tuple[dict[str, Any], str | None]] = []
        self.resumed_from: list[str | None] = []
        self.shown: list[str | None] = []
        self.streams: list[str] = []
        self.refusal: tuple[int, dict[str, object]] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answers(BaseHTTPRequestHandler):
    server: Gateway

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.shown.append(self.headers["Authorization"])
        self.server.posted.append((body, self.headers["Idempotency-Key"]))
        if self.server.refusal:
            self.answer(self.server.refusal[0], self.server.refusal[1], "application/problem+json")
        else:
            self.answer(202, {"v": 1, "launch_id": "l1", "state": "resolving"}, "application/json")

    def do_GET(self) -> None:
        self.server.shown.append(self.headers["Authorization"])
        self.server.resumed_from.append(self.headers["Last-Event-ID"])
        if not self.server.streams:
            self.answer(503, {}, "application/json")
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.wfile.write(self.server.streams.pop(0).encode())

    def answer(self, status: int, body: dict[str, Any], kind: str) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with Gateway() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def event(position: int, content: Mapping[str, object]) -> str:
    return f"id: l1~{position}~0\ndata: {json.dumps(content)}\n\n"


def line(position: int) -> str:
    return event(position, {"phase": "building", "message": f"line {position}\n"})


def test_launch_prints_progress_and_then_the_address_alone(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway.streams = [": keepalive\n\n" + line(1) + event(2, READY)]
    assert main(["launch", "gh/jupyterhub/requirements/HEAD", "--path", "a.ipynb", "--gateway", gateway.url]) == 0
    out, err = capsys.readouterr()
    assert out == "http://127.0.0.1:9/user/x/lab/tree/a.ipynb?token=t%2F1\n"
    assert err == "line 1\nserver running\n"
    body, key = gateway.posted[0]
    assert body == {"provider": "gh", "spec": "jupyterhub/requirements/HEAD", "path": "a.ipynb"}
    assert len(key or "") == 36


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
    told = f"data: {json.dumps(place)}\n\n"
    gateway.streams = ["retry: 10\n\n" + line(1) + told, line(2) + event(3, READY)]
    assert main(["launch", "git/x/HEAD", "--gateway", gateway.url]) == 0
    assert capsys.readouterr().err == "line 1\nplace 2 of 3\nline 2\nserver running\n"
    assert gateway.resumed_from == [None, "l1~1~0"]


def test_escapes_in_a_builds_log_do_not_reach_the_terminal(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway.streams = ["one\n\x1b]0;title\x07\x1b[31mtwo\n"]
    assert main(["log", f"{'0' * 24}-1", "--gateway", gateway.url]) == 0
    assert capsys.readouterr().out == "one\n]0;titletwo\n"


def test_what_is_no_queue_is_said_so(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    gateway.streams = ["<html>"]
    assert main(["queue", "--gateway", gateway.url]) == 1
    assert "is it a Bindery?" in capsys.readouterr().err


def test_a_stream_that_never_comes_back_is_given_up(gateway: Gateway) -> None:
    gateway.streams = ["retry: 10\n\n" + line(1)]
    with Client(gateway.url, patience_seconds=0.3) as bindery, pytest.raises(GatewayError, match="is lost"):
        list(bindery.events("l1"))
    assert len(gateway.resumed_from) > 2


@pytest.mark.parametrize(
    ("final", "said"),
    [
        (
            {"phase": "failed", "error": {"title": "Not found", "detail": "No ref x.", "code": "ref_not_found"}},
            "Not found. No ref x. [ref_not_found]\n",
        ),
        ({"phase": "cancelled"}, "The launch was cancelled.\n"),
    ],
)
def test_a_launch_that_does_not_succeed_says_why(
    gateway: Gateway, capsys: pytest.CaptureFixture[str], final: dict[str, object], said: str
) -> None:
    gateway.streams = [event(1, final)]
    assert main(["launch", "git/x/HEAD", "--gateway", gateway.url]) == 1
    assert capsys.readouterr() == ("", said)


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
    assert gateway.posted[0][0]["detached"] is True


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("gh/org/repo/HEAD", ("gh", "org/repo/HEAD")),
        ("git/https%3A%2F%2Fa.org%2Fb.git/main", ("git", "https%3A%2F%2Fa.org%2Fb.git/main")),
        ("http://host/base/v2/gh/org/repo/v1?urlpath=lab", ("gh", "org/repo/v1")),
    ],
)
def test_a_spec_is_kept_as_it_is_written(argument: str, expected: tuple[str, str]) -> None:
    assert split_spec(argument) == expected


@pytest.mark.parametrize("argument", ["gh", "gh/", "/", "", "https://host/nothing/here"])
def test_what_is_no_spec(argument: str) -> None:
    with pytest.raises(ValueError, match="is not <provider>/<spec>"):
        split_spec(argument)


# The start token


def running_at(folder: Path, *addresses: str) -> None:
    """Write what `make up` keeps of itself in its data folder."""
    run = folder / "run"
    run.mkdir()
    (run / "up.json").write_text(json.dumps({"v": 1, "gateways": addresses}))
    (run / "start-token").write_text("of-the-data-folder")


def test_every_request_shows_the_token_of_the_data_folder(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    running_at(tmp_path, "http://127.0.0.1:8585", gateway.url)
    monkeypatch.setenv("BINDERY_DATA_DIR", str(tmp_path))
    gateway.streams = [line(1), event(2, READY)]
    assert main(["launch", "git/x/HEAD", "--gateway", f"{gateway.url}/"]) == 0
    assert gateway.shown == ["Bearer of-the-data-folder"] * 3
    monkeypatch.setenv("BINDERY_START_TOKEN", "of-the-environment")
    main(["queue", "--gateway", gateway.url])
    with Client(gateway.url, token="of-the-program") as bindery:
        bindery.launch("git", "x/HEAD")
    assert gateway.shown[3:] == ["Bearer of-the-environment", "Bearer of-the-program"]


def test_without_an_address_the_gateway_of_the_data_folder_is_asked(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    running_at(tmp_path, gateway.url, "http://127.0.0.1:1")
    monkeypatch.setenv("BINDERY_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("BINDERY_GATEWAY_URL", raising=False)
    assert main(["launch", "gh/a/b/HEAD", "--detach"]) == 0
    assert gateway.shown == ["Bearer of-the-data-folder"]
    monkeypatch.setenv("BINDERY_GATEWAY_URL", "http://127.0.0.1:1")
    assert main(["launch", "gh/a/b/HEAD", "--detach"]) == 1
    assert len(gateway.shown) == 1


@pytest.mark.parametrize(
    "elsewhere",
    ["http://localhost:8585", "http://127.0.0.1:8586", "https://127.0.0.1:8585", "http://127.0.0.1.evil.example:8585"],
)
def test_the_data_folders_token_is_for_its_own_addresses_alone(tmp_path: Path, elsewhere: str) -> None:
    running_at(tmp_path, "http://127.0.0.1:8585")
    assert start_token("http://127.0.0.1:8585", {"BINDERY_DATA_DIR": str(tmp_path)}) == "of-the-data-folder"
    assert start_token(elsewhere, {"BINDERY_DATA_DIR": str(tmp_path)}) == ""


@pytest.mark.parametrize(
    "gateway", ["https://bindery.example", "http://10.0.0.1:8585", "http://localhost.example", "x"]
)
def test_the_environments_token_stays_on_this_machine(gateway: str) -> None:
    named = {"BINDERY_START_TOKEN": "of-the-environment"}
    assert start_token(gateway, named) == ""
    for here in ("http://127.0.0.1:8585", "http://localhost:8585", "http://[::1]:8585", "http://127.0.0.2:1"):
        assert start_token(here, named) == "of-the-environment"


@pytest.mark.parametrize(
    "record", [None, "{", "[]", '{"v": 1}', '{"gateways": 1}', '{"gateways": ["https://evil.example", 1]}']
)
def test_where_nothing_runs_there_is_no_token(tmp_path: Path, record: str | None) -> None:
    if record is not None:
        running_at(tmp_path)
        (tmp_path / "run" / "up.json").write_text(record)
    assert start_token("http://127.0.0.1:8585", {"BINDERY_DATA_DIR": str(tmp_path)}) == ""
    assert running_gateway({"BINDERY_DATA_DIR": str(tmp_path)}) == ""


def test_no_proxy_gets_the_token(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINDERY_START_TOKEN", "of-the-environment")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with Gateway() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        main(["launch", "gh/a/b/HEAD", "--detach", "--gateway", gateway.url])
    assert gateway.shown == ["Bearer of-the-environment"]


def test_who_has_no_token_is_told_where_it_is(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    detail = "Open the address that `make up` printed."
    problem: dict[str, object] = {"title": "The start token is required", "detail": detail}
    gateway.refusal = (401, problem | {"code": "start_token_required"})
    assert main(["launch", "gh/a/b/HEAD", "--gateway", gateway.url]) == 1
    err = capsys.readouterr().err
    assert detail in err
    assert f"BINDERY_DATA_DIR names the data folder of the Bindery that runs at {gateway.url}" in err
