"""The lines of a step's output as sentences: those that uv has wrapped are joined again."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from services.builder.worker.causes.log_tail import TailLine

_MARK = re.compile(r"[\s│]*(\N{MULTIPLICATION SIGN}|├─▶|╰─▶|hint:|error:|cause:)\s+(.+)")
"""The beginning of a sentence of uv's. Older releases wrap it at 80 columns; in newer ones it may have paragraphs."""
_CONTINUATION = re.compile(r"(?:\s{4,}|\s+│\s+)(?!\[)(\S.*)")
_AND = re.compile(r"\s+((?:And|and) .+)")
_TREE = " \t│├└─"
_WRAPPED = ("\N{MULTIPLICATION SIGN} ", "├─▶ ", "╰─▶ ", "hint: ", "cause: ")
PARAGRAPH_MAX_CHARS = 2000
"""How much of a sentence is kept and searched: an author could write one without end."""


@dataclass
class Paragraph:
    """A sentence without decoration, but with its mark in front, if it has one: `├─▶`, `╰─▶` or a cross."""

    after: str
    """Position before its first line."""
    text: str


def paragraphs_of(lines: Iterable[TailLine]) -> list[Paragraph]:
    """Return the sentences of an output, each by its first line; an empty line ends one."""
    paragraphs: list[Paragraph] = []
    is_wrapped = False
    for line in lines:
        if not line.text.strip():
            is_wrapped = False
            continue

        mark = _MARK.match(line.text)
        continuation = None
        if is_wrapped and not mark:
            has_paragraphs = paragraphs[-1].text.startswith("cause: ")
            continuation = (_AND if has_paragraphs else _CONTINUATION).match(line.text)
        if continuation:
            paragraphs[-1].text = f"{paragraphs[-1].text} {continuation[1]}"[:PARAGRAPH_MAX_CHARS]
            continue

        text = f"{mark[1]} {mark[2]}" if mark else line.text.strip(_TREE)
        paragraphs.append(Paragraph(line.after, text[:PARAGRAPH_MAX_CHARS]))
        is_wrapped = text.startswith(_WRAPPED)
    return paragraphs
