"""What is quoted of a log, and what is not, because it would say more than the log does."""

import pytest

from services.builder.executors.failure_classifier import classify_exit
from services.builder.worker.causes.cause import LAST_LINES, TEXT_MAX_CHARS, cause_of, explained
from services.builder.worker.causes.log_tail import TailLine
from services.builder.worker.causes.paragraphs import PARAGRAPH_MAX_CHARS, paragraphs_of
from services.common.models import Cause
from services.common.models.error_codes import ErrorCode
from services.common.models.errors import BinderyError

INSTALL = "The installation of packages ended with exit status 1"
POST_BUILD = "postBuild ended with exit status 3"
NOT_FOUND = "ERROR: No matching distribution found for nothing-here"
STEP = 'repo2docker failed: process "/bin/sh -c x" did not complete successfully: exit code: 1'


def log(*texts: str) -> list[TailLine]:
    return [TailLine(str(number), text) for number, text in enumerate(texts, start=1)]


def cause(sentence: str, *texts: str) -> Cause:
    found = cause_of(sentence, log(*texts))
    assert found
    return found


def test_of_a_post_build_the_last_lines_are_quoted_whatever_it_said_before() -> None:
    found = cause(POST_BUILD, "Running postBuild", NOT_FOUND, *"abcd", "", "cp: cannot stat 'data'", POST_BUILD)
    assert found == Cause(text="a\nb\nc\nd\ncp: cannot stat 'data'", after="3", rule="last-lines")
    assert len(found.text.splitlines()) == LAST_LINES


def test_what_an_earlier_step_said_is_not_why_a_later_one_failed() -> None:
    found = cause(POST_BUILD, "uv pip install -r requirements.txt", NOT_FOUND, "Running postBuild", "no", POST_BUILD)
    assert found.text == "no"


def test_a_post_build_that_said_nothing_has_no_lines_to_quote() -> None:
    error = BinderyError("build_failed", POST_BUILD)
    assert explained(error, log("uv pip install x", NOT_FOUND, "Running postBuild", POST_BUILD)) is error


STOPPED = [
    "The installation of packages was ended by signal 9",
    f"{STEP}37",
    "repo2docker itself was killed for memory: the machine's memory, was not enough.",
    "The container engine could not go on: failed to mount",
]


@pytest.mark.parametrize("sentence", STOPPED)
def test_what_a_program_printed_before_it_was_stopped_is_not_why(sentence: str) -> None:
    lines = "#9 1.0 Collecting numpy", f"#9 1.0 {NOT_FOUND}", "#9 ERROR: it was stopped"
    assert cause_of(sentence, log(*lines)) is None
    assert cause_of(sentence, log("uv pip install x", "Collecting numpy", NOT_FOUND, sentence)) is None


def test_of_a_program_that_was_stopped_a_lack_of_memory_is_why() -> None:
    lines = "#9 1.0 x.sh: line 3: 12 Killed python x.py", f"#9 1.0 {NOT_FOUND}", "#9 ERROR: it was stopped"
    assert cause(STOPPED[1], *lines).text == "x.sh: line 3: 12 Killed python x.py"


def test_a_script_that_ended_as_a_program_of_its_was_killed_has_last_lines() -> None:
    killed = "./postBuild: line 3: 12 Killed python x.py"
    assert cause("postBuild ended with exit status 137", "Running postBuild", killed).text == killed


@pytest.mark.parametrize("text", ["  except MemoryError:", "Killed 3 bugs", "handles a MemoryError well"])
def test_a_line_that_only_has_the_words_is_not_taken_for_a_lack(text: str) -> None:
    assert cause(INSTALL, "uv pip install x", text, NOT_FOUND).rule == "pip:not-found"


def test_a_sentence_of_the_executors_own_needs_no_cause() -> None:
    sentence = "runtime.txt says 'x'; it must name a Python like python-3.12"
    assert cause_of(sentence, log("Picked Git content provider.", NOT_FOUND, sentence)) is None


def test_a_log_whose_end_is_missing_does_not_say_why() -> None:
    finished = classify_exit(1, [], is_tail_read=False)
    assert finished.error_code == "build_failed"
    assert cause_of(finished.error_message or "", log(f"#9 1.0 {NOT_FOUND}", "#9 ERROR: x")) is None


def test_a_step_begins_with_the_file_that_is_installed_even_if_its_command_is_not_shown() -> None:
    found = cause(INSTALL, "uv pip install jupyterlab", NOT_FOUND, "Installing the packages of setup.py", "no", INSTALL)
    assert found.text == "no"


def test_an_author_who_prints_what_buildx_prints_hides_nothing_in_a_session() -> None:
    found = cause(INSTALL, "uv pip install x", "#1 ERROR: not of buildx", NOT_FOUND, INSTALL)
    assert found.rule == "pip:not-found"


@pytest.mark.parametrize("code", ["build_timeout", "build_stalled", "build_lost", "cancelled", "push_denied"])
def test_an_error_whose_reason_no_program_printed_quotes_none(code: ErrorCode) -> None:
    error = BinderyError(code, "It was not done after 5 s.")
    assert explained(error, log(f"#9 1.0 {NOT_FOUND}", "#9 ERROR: x")) is error


def test_a_cause_that_the_sentence_has_already_is_not_said_twice() -> None:
    error = BinderyError("build_failed", "repo2docker failed: no such thing")
    found = explained(error, log("Error during build: no such thing"))
    assert found.detail == "repo2docker failed: no such thing"
    assert found.cause == Cause(text="no such thing", after="1", rule="repo2docker:error")


def test_a_cause_that_the_quoted_command_happens_to_have_is_said_all_the_same() -> None:
    sentence = (
        "repo2docker failed: failed to solve: executor failed running [/bin/sh -c echo near && exit 3]: exit code: 3"
    )
    found = explained(BinderyError("build_failed", sentence), log("#9 1.0 near", "#9 ERROR: executor failed running x"))
    assert found.detail == f"near\nThis is the last line of its output. {sentence}"


def test_an_error_keeps_its_code_and_who_can_do_something_about_it() -> None:
    error = BinderyError("engine_failed", f"{STOPPED[3]}: no space left on device")
    found = explained(error, log("#9 1.0 write /x: No space left on device", "#9 ERROR: x"))
    assert found.problem == error.problem.updated(detail=found.detail, cause=found.cause)
    assert found.cause
    assert found.cause.rule == "disk:full"


def test_memory_and_disk_that_ran_out_far_above_the_end_are_not_why() -> None:
    full = "cp: error writing 'x': No space left on device"
    assert cause(INSTALL, "uv pip install x", full, *["went on"] * 100, NOT_FOUND).rule == "pip:not-found"
    assert cause(INSTALL, "uv pip install x", *["went on"] * 100, full, NOT_FOUND).rule == "disk:full"


def test_a_step_of_buildx_is_read_by_its_number_and_without_prefixes() -> None:
    found = cause(
        STEP,
        "#8 [2/4] RUN pip install -r requirements.txt",
        "#9 [3/4] RUN ./binder/postBuild",
        f"#8 1.0 {NOT_FOUND}",
        "#9 0.2 one",
        "#9 0.3 #8 ERROR: printed by the script",
        '#9 ERROR: process "/bin/sh -c ./binder/postBuild" did not complete successfully: exit code: 1',
        "------",
        " > [3/4] RUN ./binder/postBuild:",
        "0.2 one",
        "------",
    )
    assert found == Cause(text="one\n#8 ERROR: printed by the script", after="4", rule="last-lines")


def test_a_line_without_end_is_cut() -> None:
    found = cause(POST_BUILD, "Running postBuild", "first", "x" * 10_000, POST_BUILD)
    assert found.text == "x" * TEXT_MAX_CHARS + " …"


def test_a_log_made_to_be_searched_for_long_is_not() -> None:
    texts = [f"{'Because a. ' * 150} WARNING: Retrying connection broken by", NOT_FOUND] * 40
    assert cause(INSTALL, "uv pip install x", *texts).rule == "pip:not-found"


def test_of_a_sentence_without_end_only_the_beginning_is_searched() -> None:
    [paragraph] = paragraphs_of(log(f"  ╰─▶ Because x {'x ' * PARAGRAPH_MAX_CHARS}", f"      {'y ' * 2**15}"))
    assert len(paragraph.text) == PARAGRAPH_MAX_CHARS
    [paragraph] = paragraphs_of(log("  ╰─▶ Because x", f"      {'y ' * 2**15}"))
    assert len(paragraph.text) == PARAGRAPH_MAX_CHARS


@pytest.mark.parametrize("lines", [["#9 1.0 near", "near"], ["Step 3/9 : RUN x", "near"]])
def test_of_a_step_that_is_not_in_the_log_nothing_is_quoted(lines: list[str]) -> None:
    assert cause_of(STEP, log(*lines, NOT_FOUND)) is None


def test_an_empty_log_has_no_cause() -> None:
    assert cause_of(INSTALL, []) is None
