"""`bindery log`."""

import pytest

from bindery.cli import main
from tests.support.scripted_gateway import Gateway


def test_escapes_in_a_builds_log_do_not_reach_the_terminal(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway.streams = ["one\n\x1b]0;title\x07\x1b[31mtwo\n"]
    assert main(["log", f"{'0' * 24}-1", "--gateway", gateway.url]) == 0
    assert capsys.readouterr().out == "one\n]0;titletwo\n"


@pytest.mark.parametrize(("options", "lines"), [([], "0"), (["--lines", "5"], "5"), (["--lines", "-5"], "-5")])
def test_lines_may_be_the_first_or_the_last(gateway: Gateway, options: list[str], lines: str) -> None:
    gateway.streams = ["one\n"]
    assert main(["log", "b1", *options, "--gateway", gateway.url]) == 0
    assert gateway.paths == [f"/api/v1/builds/b1/log?lines={lines}&format=text"]
