"""The cause of a failed build: the sentence of its log that a rule finds, or what the program printed last."""

import re
from collections.abc import Sequence

from services.builder.worker.causes.failed_step import FailedStep, failed_step, names_program, unbroken
from services.builder.worker.causes.log_tail import TailLine, read_tail
from services.builder.worker.causes.paragraphs import paragraphs_of
from services.builder.worker.causes.rules import RULES
from services.common.context import ProcessContext
from services.common.models import Cause
from services.common.models.error_codes import ErrorCode
from services.common.models.errors import BinderyError
from services.common.redis.client import retry_while_unavailable
from services.common.redis.keys import Topic
from services.common.service.logging import get_logger

log = get_logger(__name__)

LOG_SAYS_WHY: frozenset[ErrorCode] = frozenset({"build_failed", "build_out_of_memory", "engine_failed"})
"""Errors whose reason a program has printed. The others say it themselves, or nobody knows it."""

LAST_LINES = 5
TEXT_MAX_CHARS = 800

_LAST_LINES_RULE = "last-lines"
_NOISE = re.compile(r"$|time: [0-9.]+$|\[notice\] |\[end of output\]$|note: This error originates from |-+$")
"""What a program may print behind its reason."""


async def explain(error: BinderyError, context: ProcessContext, topic: Topic) -> BinderyError:
    """Return the error of a live build with its cause, read from the end of its log; the error itself without one.

    It never fails: that a log can't be read must not keep a build from ending.
    """
    if error.code not in LOG_SAYS_WHY:
        return error
    try:
        lines = await retry_while_unavailable(
            lambda: read_tail(context.redis, context.keys, topic), seconds=context.settings.redis_patience_seconds
        )
        return explained(error, lines)
    except Exception as failure:
        log.exception("cause_unread", topic=topic.name, error=str(failure))
        return error


def explained(error: BinderyError, lines: Sequence[TailLine]) -> BinderyError:
    """Return the error with its cause, which its detail then begins with; the error itself if the log says no more.

    `lines` are the last ones of the build's log. Nothing is guessed: without a sentence that is known, only the last
    lines of a program that ended by itself are quoted, and called that.
    """
    cause = cause_of(error.detail, lines) if error.code in LOG_SAYS_WHY else None
    if cause is None:
        return error
    return BinderyError(
        error.code,
        _with_cause(error.detail, cause),
        retry_after_seconds=error.retry_after_seconds,
        extra=error.extra,
        cause=cause,
    )


def cause_of(sentence: str, lines: Sequence[TailLine]) -> Cause | None:
    """Return what the end of a log says about a failure, which the executor describes by `sentence`."""
    step = failed_step(lines, sentence)
    if step.is_post_build:  # it may have gone on after any of these sentences: what it printed last is all that counts
        return _last_lines(step)

    paragraphs = paragraphs_of(step.lines)
    for rule in RULES:
        if step.was_stopped and not rule.is_of_a_lack:
            continue
        if quote := rule.quote(paragraphs):
            paragraph, texts = quote
            if step.is_unknown and not _says_one_of(sentence, texts):
                continue
            return Cause(text=_bounded("\n".join(texts)), after=paragraph.after, rule=rule.name)
    return _last_lines(step)


def _last_lines(step: FailedStep) -> Cause | None:
    if not step.ended_by_itself:
        return None
    lines = [line for line in step.lines if not _NOISE.match(line.text.strip())]
    last = lines[-LAST_LINES:]
    while len(last) > 1 and sum(len(line.text) + 1 for line in last) > TEXT_MAX_CHARS:
        last = last[1:]
    if not last:
        return None
    return Cause(text=_bounded("\n".join(line.text for line in last)), after=last[0].after, rule=_LAST_LINES_RULE)


def _says_one_of(sentence: str, texts: Sequence[str]) -> bool:
    said = unbroken(sentence)
    return any(unbroken(text).rstrip(" .:") in said for text in texts)


def _bounded(text: str) -> str:
    return text if len(text) <= TEXT_MAX_CHARS else f"{text[:TEXT_MAX_CHARS]} …"


def _with_cause(sentence: str, cause: Cause) -> str:
    """Return the detail of an error: the cause first, then what the executor says, unless that is why already."""
    text = cause.text
    if not names_program(sentence):
        return sentence
    if cause.rule == _LAST_LINES_RULE:
        what = "This is the last line" if "\n" not in text else "These are the last lines"
        return f"{text}\n{what} of its output. {sentence}"
    if "\n" in text:
        return f"{text}\n{sentence}"
    return f"{text}{'' if text.endswith(('.', '!', '?')) else '.'} {sentence}"
