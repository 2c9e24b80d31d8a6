"""What the log of a failed build says, in the recorded words of the programs that builds run."""

from pathlib import Path

import pytest

from services.builder.queue.log_excerpt import LogExcerpt
from services.builder.worker.causes import cause as cause_module
from services.builder.worker.causes.cause import cause_of, explained
from services.builder.worker.causes.log_tail import tail_lines
from services.builder.worker.causes.rules import RULES
from services.common.models.errors import BinderyError
from tests.unit.builder.worker.causes.recordings import FOLDER, Recording, entries_of, recording

RECORDED = sorted(FOLDER.glob("*.log"))


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_the_line_that_matters_is_quoted_and_found_again(path: Path) -> None:
    recorded = recording(path)
    entries = entries_of(recorded.log)
    cause = cause_of(recorded.says, tail_lines(entries))
    assert cause
    assert (cause.rule, cause.text) == (recorded.rule, recorded.quote)
    excerpt = LogExcerpt(after=cause.after, lines=1)
    [line] = excerpt.of(entry for entry in entries if not cause.after or int(entry.id[:-2]) >= int(cause.after[:3]))
    assert line.message == f"{recorded.log[recorded.line - 1]}\n"


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_the_detail_of_the_error_begins_with_it(path: Path) -> None:
    recorded = recording(path)
    error = BinderyError("build_failed", recorded.says)
    detail = explained(error, tail_lines(entries_of(recorded.log))).detail
    assert recorded.says in detail
    if detail == recorded.says:
        assert any(line.rstrip(" .:") in detail for line in recorded.quote.splitlines())
    else:
        assert detail.startswith(recorded.quote)


@pytest.mark.parametrize("number", range(len(RULES)), ids=lambda number: f"{number}-{RULES[number].name}")
def test_each_rule_is_needed_for_a_recording(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cause_module, "RULES", RULES[:number] + RULES[number + 1 :])
    assert any(not is_found(recording(path)) for path in RECORDED)


def is_found(recorded: Recording) -> bool:
    cause = cause_of(recorded.says, tail_lines(entries_of(recorded.log)))
    return cause is not None and (cause.rule, cause.text) == (recorded.rule, recorded.quote)
