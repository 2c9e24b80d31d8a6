"""What the parts say is prefixed, harmless on a terminal, and kept in files of bounded size."""

import io
from pathlib import Path

import pytest

from deploy.local.console import Console, harmless


class FakeTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def printed(folder: Path, stream: io.StringIO, environ: dict[str, str], max_bytes: int = 10_000) -> str:
    console = Console(folder, max_bytes=max_bytes, backups=2, stream=stream, environ=environ)
    console.relay("hub", b"hello")
    console.say("something happened")
    console.announce("Bindery is ready: http://127.0.0.1:8585")
    console.close()
    return stream.getvalue()


def test_lines_carry_their_parts_name(tmp_path: Path) -> None:
    assert printed(tmp_path, io.StringIO(), {}).splitlines() == [
        "hub        | hello",
        "bindery    | something happened",
        "Bindery is ready: http://127.0.0.1:8585",
    ]


def test_colours_on_a_terminal_only_and_not_with_no_color(tmp_path: Path) -> None:
    assert "\x1b[36mhub        | \x1b[0mhello" in printed(tmp_path, FakeTerminal(), {})
    assert "\x1b" not in printed(tmp_path, FakeTerminal(), {"NO_COLOR": "1"})
    assert "\x1b" not in printed(tmp_path, io.StringIO(), {})


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;new title\x07", "\\x1b]0;new title\\x07"),
        ("back\rover", "back\\x0dover"),
        ("a\ttab and ümläute", "a\ttab and ümläute"),
    ],
)
def test_a_line_cannot_command_the_terminal(line: str, expected: str) -> None:
    assert harmless(line) == expected


def test_log_files_are_rotated_and_bounded(tmp_path: Path) -> None:
    console = Console(tmp_path, max_bytes=100, backups=2, stream=io.StringIO(), environ={})
    for number in range(100):
        console.relay("hub", b"line %d" % number)
    console.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hub.log", "hub.log.1", "hub.log.2"]
    lines = "".join((tmp_path / name).read_text() for name in ("hub.log.2", "hub.log.1", "hub.log")).split("\n")
    assert lines[-2] == "line 99"
    assert all(path.stat().st_size <= 100 for path in tmp_path.iterdir())
    assert console.last_lines("hub") == [f"line {number}" for number in range(80, 100)]


class ClosedTerminal(io.StringIO):
    def write(self, _: str) -> int:
        raise BrokenPipeError


def test_a_closed_terminal_stops_nothing(tmp_path: Path) -> None:
    printed(tmp_path, ClosedTerminal(), {})
    assert (tmp_path / "hub.log").read_text() == "hello\n"
