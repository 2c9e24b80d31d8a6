"""The end of a build's log: only what is known to be one piece, as a terminal shows it."""

import json
from pathlib import Path

from services.builder.executors.process.session.log import BuildLog
from services.builder.worker.causes.log_tail import tail_lines
from services.common.streams.entries import Entry
from tests.unit.builder.worker.causes.recordings import entries_of


def texts(*entries: Entry) -> list[str]:
    return [line.text for line in tail_lines(entries)]


def test_a_line_leads_to_the_position_before_it() -> None:
    lines = tail_lines(entries_of(["one", "two", "three", "four"], events_each=2))
    assert [(line.text, line.after) for line in lines] == [
        ("one", "100-0.1"), ("two", "101-0.1"), ("three", "101-0.2"), ("four", "102-0.1"),
    ]  # fmt: skip


def test_colours_progress_and_marks_that_reorder_text_are_left_out() -> None:
    shown = texts(*entries_of(["\x1b[31merror\x1b[39m: it\x1b]0;title\x07 failed", "10 %\r100 %\r", "a\u202eb\x00"]))
    assert shown == ["error: it failed", "100 %", "ab"]


def test_lines_before_a_gap_are_not_taken_for_the_end() -> None:
    entries = entries_of(["before"])
    entries += entries_of(["The build is run again."], phase="gap")[1:]
    assert texts(*entries, *entries_of(["after"])[1:]) == ["after"]


def test_lines_before_the_cut_of_a_session_are_not_taken_for_the_end(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.touch()
    written = BuildLog(path, max_line_bytes=100, max_log_bytes=200)
    for number in range(9):
        written.relay("building", f"line {number} of a program")
    written.write("building", "It ended with exit status 1")
    written.close()
    lines = [json.loads(line)["message"].removesuffix("\n") for line in path.read_text().splitlines()]
    assert lines[0] == "line 0 of a program"
    assert texts(*entries_of(lines)) == ["It ended with exit status 1"]


def test_logins_in_urls_are_blanked() -> None:
    assert texts(*entries_of(["Failed to fetch: http://user:pass-word@packages.example/simple"])) == [
        "Failed to fetch: http://user:[secret]@packages.example/simple"
    ]


def test_lines_that_are_missing_from_a_stream_end_the_piece() -> None:
    first, *others = entries_of(["one", "two", "three"], events_each=1)
    assert texts(first, others[0], others[2]) == []
    assert texts(first, *others) == ["one", "two", "three"]


def test_the_first_line_of_a_stream_whose_beginning_is_not_read_leads_nowhere_and_is_left_out() -> None:
    assert texts(*entries_of(["one", "two", "three", "four"], events_each=2)[2:]) == ["four"]


def test_what_waits_and_what_git_says_is_no_program_of_the_build() -> None:
    assert texts(*entries_of(["remote: ERROR: no"], phase="fetching")) == []
    assert texts(*entries_of(["Waiting for it ..."], phase="waiting")) == []
