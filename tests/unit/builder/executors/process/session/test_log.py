"""A build's log stays readable, whatever the build prints."""

import json
from collections.abc import Callable
from pathlib import Path

from services.builder.executors.process.session.errors import StepError
from services.builder.executors.process.session.layout import Layout
from services.builder.executors.process.session.log import BuildLog
from services.builder.executors.process.session.session import build_image
from services.builder.executors.process.session.spec import BuildSpec
from tests.support.sample_builds import QUICK


def _messages(path: Path) -> list[str]:
    return [json.loads(line)["message"] for line in path.read_text().splitlines()]


def test_every_message_is_one_line_with_its_newline(tmp_path: Path) -> None:
    log = BuildLog(tmp_path / "log", max_line_bytes=100, max_log_bytes=10_000)
    log.write("fetching", "one\ntwo")
    log.relay("building", b"\xff\xfe<b>\x1b[31m")
    assert _messages(tmp_path / "log") == ["one\n", "two\n", "\ufffd\ufffd<b>\x1b[31m\n"]


def test_a_line_without_end_is_cut_with_a_note(tmp_path: Path) -> None:
    log = BuildLog(tmp_path / "log", max_line_bytes=10, max_log_bytes=10_000)
    log.relay("building", "ää".encode() * 100)
    assert _messages(tmp_path / "log") == ["äääää [The line is cut: it is longer than 10 bytes]\n"]


def test_an_endless_log_ends_with_a_note_and_our_own_lines_still_come(tmp_path: Path) -> None:
    log = BuildLog(tmp_path / "log", max_line_bytes=100, max_log_bytes=200)
    for number in range(100):
        log.relay("building", f"line {number}".encode())
    log.write("failed", "the end")
    messages = _messages(tmp_path / "log")
    assert len(messages) < 10
    assert "the rest is left out" in messages[-2]
    assert messages[-1] == "the end\n"


def test_a_line_that_is_text_already_counts_too(tmp_path: Path) -> None:
    log = BuildLog(tmp_path / "log", max_line_bytes=100, max_log_bytes=200)
    for number in range(100):
        log.relay("fetching", f"remote: {number}")
    assert len(_messages(tmp_path / "log")) < 10


async def test_the_messages_of_a_git_server_cannot_fill_the_disk(tmp_path: Path) -> None:
    async def talkative(_spec: BuildSpec, _target: Path, on_line: Callable[[str], None]) -> None:
        for number in range(1000):
            on_line(f"remote: {number}")
        raise StepError("fetch_failed", "The connection broke.")

    folder = Layout(tmp_path).build("0" * 24 + "-1")
    folder.path.mkdir(parents=True)
    settings = QUICK.model_copy(update={"max_log_bytes": 2000})
    spec = BuildSpec(
        build_id=folder.build_id, image="i:a", repo_url="https://example.org/r", ref="a" * 40,
        data_dir=str(tmp_path), settings=settings,
    )  # fmt: skip
    folder.spec.write_text(spec.model_dump_json())
    await build_image(folder, talkative)
    assert folder.log.stat().st_size < 2500
    assert "the rest is left out" in _messages(folder.log)[-2]
    assert _messages(folder.log)[-1] == "The connection broke.\n"
