"""The output of the step that failed, cut out of the end of a log: of a session, of buildx, or of the classic builder.

A log is an author's too: who prints what looks like a step's beginning changes what is quoted of their own build, and
nothing else.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.builder.executors.failure_classifier import END_IS_MISSING
from services.builder.worker.causes.log_tail import TailLine

_SESSION_STEP = re.compile(r"Installing the packages of |Solving \S+ with |uv pip install |Running postBuild$")
"""A session's own words, with which a step of it begins."""
_SESSION_ENDED = re.compile(r"[^:]{1,100} (?:ended with exit status|was ended by signal) [0-9]+$")
"""A session's own words about a program that failed. All others of its sentences are the reason themselves."""
_BUILDX_FAILED = re.compile(r"#([0-9]{1,9}) ERROR: ")
_BUILDX_COMMAND = re.compile(r"#[0-9]{1,9} \[[^\]]*\] (.*)")
_BUILDX_OUTPUT = re.compile(r"#[0-9]{1,9} [0-9]+\.[0-9]+(?: (.*))?$")
_CLASSIC_STEP = re.compile(r"Step [0-9]{1,9}/[0-9]{1,9} : (.*)")
_CLASSIC_OWN = re.compile(r" ---> |Removing intermediate container |The command '|Error during build: ")
_CLASSIC_FAILED = re.compile(r"(?:Error during build: )?The command '.*' returned a non-zero code: ")
_RUNS_POST_BUILD = re.compile(r"""RUN .*\bpostBuild["']?$""")
_FAILED_BY_ITSELF = re.compile(
    r"ended with exit status [0-9]+|did not complete successfully: exit code: [0-9]+|returned a non-zero code: [0-9]+"
    r"|executor failed running .*: exit code: [0-9]+"
)
_STOPPED = re.compile(
    r"(?:exit code|non-zero code)[: ]+(?:137|143)\b|was ended by signal |was killed for memory|engine could not go on"
)
"""Not the program's own end: it may not have printed why."""
_SENTENCE_MAX_CHARS = 4096
"""How much of a sentence is searched: an author may have written a part of it."""


@dataclass(frozen=True, kw_only=True)
class FailedStep:
    """The output of a step, without the prefixes of the program that ran it."""

    lines: tuple[TailLine, ...] = ()
    is_post_build: bool = False
    """Whether the repository's own script printed it."""
    ended_by_itself: bool = False
    """Whether a program ended with a status: then what it printed last may say why."""
    is_unknown: bool = False
    """Whether the lines may be those of other steps too: then only what the executor says itself is known to be why."""
    was_stopped: bool = False
    """Whether something ended it: then only a lack of memory or disk may be why."""


def failed_step(lines: Sequence[TailLine], sentence: str) -> FailedStep:
    """Return the step that failed, from the end of a log and from how the executor says that the build ended.

    It has no lines if the log's end is missing: what comes before it may not be why.
    """
    if END_IS_MISSING in sentence:
        return FailedStep()

    own = {text.strip() for text in sentence.splitlines()}  # a session ends its log with the sentence
    lines = [line for line in lines if line.text.strip() not in own]
    searched = sentence[:_SENTENCE_MAX_CHARS]
    was_stopped = bool(_STOPPED.search(searched))
    if _SESSION_ENDED.match(searched):
        step = _of_session(lines, searched)
    else:
        step = _of_buildx(lines) or _of_classic_builder(lines) or FailedStep(lines=tuple(lines), is_unknown=True)
    ended_by_itself = bool(_FAILED_BY_ITSELF.search(searched)) and not (was_stopped or step.is_unknown)
    return replace(step, ended_by_itself=ended_by_itself, was_stopped=was_stopped)


def names_program(sentence: str) -> bool:
    """Return whether a sentence is about the end of a program: it may quote the command, but not what that printed."""
    searched = sentence[:_SENTENCE_MAX_CHARS]
    return bool(_FAILED_BY_ITSELF.search(searched) or _STOPPED.search(searched))


def _of_buildx(lines: Sequence[TailLine]) -> FailedStep | None:
    failed = next((match for line in reversed(lines) if (match := _BUILDX_FAILED.match(line.text))), None)
    if failed is None:
        return None

    own = [line for line in lines if line.text.startswith(f"#{failed[1]} ")]
    commands = [match[1] for line in own if (match := _BUILDX_COMMAND.match(line.text))]
    output = tuple(TailLine(line.after, match[1] or "") for line in own if (match := _BUILDX_OUTPUT.match(line.text)))
    return FailedStep(lines=output, is_post_build=bool(commands) and _is_post_build(commands[0]))


def _of_classic_builder(lines: Sequence[TailLine]) -> FailedStep | None:
    if not any(_CLASSIC_FAILED.match(line.text) for line in lines):
        return None

    start, command = 0, ""
    for number, line in enumerate(lines):
        if match := _CLASSIC_STEP.match(line.text):
            start, command = number + 1, match[1]
    output = tuple(line for line in lines[start:] if not _CLASSIC_OWN.match(line.text))
    return FailedStep(lines=output, is_post_build=_is_post_build(command))


def _of_session(lines: Sequence[TailLine], sentence: str) -> FailedStep:
    """Return the last step of a session, or all lines if its beginning is not among them."""
    starts = [number for number, line in enumerate(lines) if _SESSION_STEP.match(line.text)]
    output = lines[starts[-1] + 1 :] if starts else lines
    return FailedStep(lines=tuple(output), is_post_build=sentence.startswith("postBuild "))


def _is_post_build(command: str) -> bool:
    return bool(_RUNS_POST_BUILD.match(command))


def unbroken(text: str) -> str:
    """Return a text without line breaks, and without the branches of a tree that some programs draw."""
    return re.sub(r"[\s│├└─]+", " ", text).strip()
