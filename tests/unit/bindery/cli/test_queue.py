"""`bindery queue`."""

import json

import pytest

from bindery.cli import main
from tests.support.scripted_gateway import Gateway


def test_a_server_that_is_not_a_bindery_is_reported(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    gateway.streams = ["<html>"]
    assert main(["queue", "--gateway", gateway.url]) == 1
    assert "is it a Bindery?" in capsys.readouterr().err


def test_the_queue_is_printed_with_its_workers(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    workers = [{"slots": 4, "running": 3, "name": "w1"}, {"slots": 2, "running": 0}]
    queue = {"depth": 2, "oldest_waiting_seconds": 61.4, "running": 3, "capacity": 6, "workers": workers}
    gateway.streams = [json.dumps(queue), json.dumps(queue | {"depth": 0, "oldest_waiting_seconds": None})]
    assert main(["queue", "--gateway", gateway.url]) == 0
    assert main(["queue", "--gateway", gateway.url]) == 0
    rest = "running  3 of 6\nworker   3 of 4  w1\nworker   0 of 2\n"
    assert capsys.readouterr().out == f"waiting  2, the first for 61 s\n{rest}waiting  0\n{rest}"
