"""Lines and progress bars, in whatever pieces they come."""

import json
from pathlib import Path

import pytest

from services.builder.executors.process.session.log import BuildLog
from services.builder.executors.process.session.output import OutputLines


def relayed(tmp_path: Path, chunks: list[bytes], *, progress_seconds: float) -> list[str]:
    log = BuildLog(tmp_path / "log", max_line_bytes=100, max_log_bytes=10**6, progress_seconds=progress_seconds)
    lines = OutputLines(log, max_line_bytes=100)
    for chunk in chunks:
        lines.feed(chunk)
    lines.close()
    log.close()
    return [json.loads(line)["message"].rstrip("\n") for line in (tmp_path / "log").read_text().splitlines()]


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_lines_are_the_same_in_whatever_pieces_they_come(tmp_path: Path, size: int) -> None:
    output = b"one\r\n\ntwo\n\rthree\r\nend"
    chunks = [output[start : start + size] for start in range(0, len(output), size)]
    assert relayed(tmp_path, chunks, progress_seconds=1000) == ["one", "", "two", "three", "end"]


def test_a_progress_bar_is_followed_as_it_moves(tmp_path: Path) -> None:
    bar = [b"\r 10%", b"\r 20%", b"\r 30%\n", b"done\n"]
    assert relayed(tmp_path, bar, progress_seconds=0) == [" 10%", " 20%", " 30%", "done"]


def test_a_progress_bar_that_moves_quickly_is_shown_from_time_to_time_and_at_its_end(tmp_path: Path) -> None:
    bar = [f"{percent}%\r".encode() for percent in range(100)] + [b"100%\n"]
    assert relayed(tmp_path, bar, progress_seconds=1000) == ["100%"]


def test_of_states_that_come_at_once_the_last_is_shown(tmp_path: Path) -> None:
    assert relayed(tmp_path, [b"1%\r2%\r   \r3%", b"\n"], progress_seconds=0) == ["2%", "3%"]


def test_a_bar_of_megabytes_is_not_kept_and_what_follows_is_read(tmp_path: Path) -> None:
    bar = [b"x" * 90 + b"\r"] * 100 + [b"y" * 1000, b"z" * 1000 + b"\rthe end\n", b"after\n"]
    lines = relayed(tmp_path, bar, progress_seconds=1000)
    assert lines == ["the end", "after"]


def test_a_line_that_is_too_long_is_cut_and_the_next_is_whole(tmp_path: Path) -> None:
    lines = relayed(tmp_path, [b"x" * 150, b"x" * 150 + b"\nnext\n"], progress_seconds=1000)
    assert [lines[0][:100], lines[0][100:118], *lines[1:]] == ["x" * 100, " [The line is cut:", "next"]
