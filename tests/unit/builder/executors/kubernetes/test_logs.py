"""A pod's log is told from where it was left: nothing twice, nothing silently missing."""

import pytest

from services.builder.executors.base import Line
from services.builder.executors.kubernetes.logs import PodLogDecoder, PodLogPosition

LOG = (
    b"2026-11-23T23:00:00.100000000Z one\n"
    b"2026-11-23T23:00:00.200000000Z two\n"
    b"2026-11-23T23:00:00.200000000Z three\n"
    b"2026-11-23T23:00:01.000000001Z four\n"
)


def decode(text: bytes, position: str = "", *, line_max_bytes: int = 1000) -> tuple[list[str], str]:
    log = PodLogDecoder(PodLogPosition.parse(position), line_max_bytes=line_max_bytes)
    lines = log.feed(text)
    return [line.message for line in lines], str(log.position)


def test_each_line_is_told_once_and_the_position_counts_those_with_one_stamp() -> None:
    messages, position = decode(LOG.rpartition(b"2026")[0])
    assert messages == ["one\n", "two\n", "three\n"]
    stamp, _, count = position.partition("/")
    assert (int(stamp) % 10**9, count) == (200_000_000, "2")


def test_whatever_line_it_was_left_at_the_next_stream_goes_on_after_it() -> None:
    whole, _ = decode(LOG)
    for count in range(1, 5):
        beginning = b"".join(LOG.splitlines(keepends=True)[:count])
        before, position = decode(beginning)
        after, _ = decode(LOG, position)
        assert before + after == whole


def test_a_stream_cut_anywhere_makes_the_same_lines() -> None:
    whole, _ = decode(LOG)
    for at in range(len(LOG)):
        log = PodLogDecoder(PodLogPosition(), line_max_bytes=1000)
        lines = log.feed(LOG[:at]) + log.feed(LOG[at:])
        assert [line.message for line in lines] == whole


def test_a_log_that_was_rotated_since_is_told_with_a_gap() -> None:
    _, position = decode(LOG.partition(b"\n")[0] + b"\n")
    rest = LOG.splitlines(keepends=True)[3]
    messages, _ = decode(rest, position)
    assert "rotated" in messages[0]
    assert messages[1:] == ["four\n"]


def test_what_the_node_says_in_place_of_a_log_is_a_gap() -> None:
    log = PodLogDecoder(PodLogPosition(), line_max_bytes=1000)
    [line] = log.feed(b"unable to retrieve container logs for containerd://0123\n")
    assert line == Line("gap", "The node says of the log: unable to retrieve container logs for containerd://0123\n")


def test_a_line_without_an_end_is_told_at_the_end_only() -> None:
    log = PodLogDecoder(PodLogPosition(), line_max_bytes=1000)
    assert log.feed(b"2026-11-23T23:00:00.100000000Z half") == []
    assert [line.message for line in log.end()] == ["half\n"]


def test_a_line_of_megabytes_is_cut_and_held_in_no_more_memory_than_its_beginning() -> None:
    log = PodLogDecoder(PodLogPosition(), line_max_bytes=100)
    assert log.feed(b"2026-11-23T23:00:00.100000000Z ") == []
    for _ in range(200):
        assert log.feed(b"x" * 65536) == []
        assert len(log._rest) < 1000
    [line] = log.feed(b"\n")
    assert line.message.startswith("xxx")
    assert "cut" in line.message


def test_a_node_in_another_time_zone_counts_the_same_instants() -> None:
    _, there = decode(b"2026-11-24T01:00:00.100000000+02:00 one\n")
    _, here = decode(b"2026-11-23T23:00:00.100000000Z one\n")
    assert there == here
    assert PodLogPosition.parse(here).since == "2026-11-23T23:00:00Z"


def test_a_line_that_begins_with_an_impossible_time_is_the_nodes_word_and_nothing_worse() -> None:
    log = PodLogDecoder(PodLogPosition(), line_max_bytes=1000)
    [line] = log.feed(b"2026-99-99T23:00:00.1Z one\n")
    assert line == Line("gap", "The node says of the log: 2026-99-99T23:00:00.1Z one\n")
    assert log.position == PodLogPosition()


def test_what_the_node_repeats_in_each_stream_is_told_once_until_there_is_a_line() -> None:
    log = PodLogDecoder(PodLogPosition(), line_max_bytes=1000)
    note = b"unable to retrieve container logs\n"
    assert len(log.feed(note)) == 1
    log = log.for_next_stream()
    assert log.feed(note + note) == []
    assert len(log.feed(LOG + note)) == 5


@pytest.mark.parametrize("text", ["0123456789ab/1795474800.000000001/2", "4096", "x/y/z", "1/", "1" * 30 + "/1"])
def test_a_position_of_another_kind_is_the_beginning(text: str) -> None:
    assert PodLogPosition.parse(text) == PodLogPosition()
