"""The lines of a requirements file, split as pip splits them: continuations, comments, variables, options.

Source: pip's documentation of the requirements file format, and the behaviour of pip 23 to 26 where it is silent.
"""

import optparse
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

_COMMENT = re.compile(r"(^|\s+)#.*$")
_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")


class InvalidLineError(ValueError):
    """A line that pip would refuse; the message says what is wrong with it."""


@dataclass(frozen=True, kw_only=True)
class LineOptions:
    """The options of one line. A tuple has an option's values in their order."""

    index_url: str | None = None
    extra_index_urls: tuple[str, ...] = ()
    no_index: bool = False
    find_links: tuple[str, ...] = ()
    formats: tuple[tuple[str, str], ...] = ()
    """Of `--no-binary` and `--only-binary`: ("source" or "binary", names) in the order in which they stand."""
    pre: bool = False
    prefer_binary: bool = False
    require_hashes: bool = False
    trusted_hosts: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    editables: tuple[str, ...] = ()
    hashes: tuple[str, ...] = ()
    config_settings: tuple[str, ...] = ()
    global_options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Line:
    """A logical line: its number, the text of its requirement if it has one, and its options."""

    number: int
    requirement: str
    options: LineOptions


def split_lines(text: str, variables: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    """Yield the logical lines of a file, with the number of their first line, without comments and empty lines.

    `${NAME}` becomes the value of a variable; it stays as it is if there is none, or if the value is empty.
    """
    for number, joined in _joined(text):
        line = _COMMENT.sub("", joined).strip()
        if line:
            yield number, _VARIABLE.sub(lambda match: variables.get(match[1]) or match[0], line)


def parse_line(number: int, line: str) -> Line:
    """Split a logical line into a requirement and options. Raise `InvalidLineError`."""
    words = line.split(" ")
    count = next((index for index, word in enumerate(words) if word.startswith("-")), len(words))
    try:
        options = shlex.split(" ".join(words[count:]))
    except ValueError as error:
        raise InvalidLineError(f"{error}".lower()) from None
    return Line(number, " ".join(words[:count]).strip(), _parse_options(options))


def _joined(text: str) -> Iterator[tuple[int, str]]:
    first = 0
    parts: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        is_comment = _COMMENT.match(line) is not None
        if line.endswith("\\") and not is_comment:
            first = first if parts else number
            parts.append(line.strip("\\"))
            continue
        # The space keeps a comment after a continuation a comment.
        yield first if parts else number, "".join([*parts, f" {line}" if is_comment else line])
        parts = []
    if parts:
        yield first, "".join(parts)


class _Parser(optparse.OptionParser):
    """optparse, because pip uses it: abbreviated options, `-rname` and `-e=…` mean what they mean there."""

    def error(self, msg: str) -> NoReturn:
        raise InvalidLineError(msg)


def _parse_options(words: list[str]) -> LineOptions:
    if not words:
        return LineOptions()

    parsed, _ = _parser().parse_args(words)
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in vars(parsed).items()
        if name != "features"  # experiments of pip's own
    }
    return LineOptions(**values)


def _parser() -> _Parser:
    parser = _Parser(add_help_option=False, usage=optparse.SUPPRESS_USAGE)
    add = parser.add_option
    add("-i", "--index-url", "--pypi-url", dest="index_url")
    add("--extra-index-url", dest="extra_index_urls", action="append", default=[])
    add("--no-index", dest="no_index", action="store_true", default=False)
    add("-f", "--find-links", dest="find_links", action="append", default=[])
    for name, form in (("--no-binary", "source"), ("--only-binary", "binary")):
        add(name, dest="formats", type="str", action="callback", callback=_take_format, callback_args=(form,))
    parser.set_default("formats", ())
    add("--pre", dest="pre", action="store_true", default=False)
    add("--prefer-binary", dest="prefer_binary", action="store_true", default=False)
    add("--require-hashes", dest="require_hashes", action="store_true", default=False)
    add("--trusted-host", dest="trusted_hosts", action="append", default=[])
    add("-r", "--requirement", dest="requirements", action="append", default=[])
    add("-c", "--constraint", dest="constraints", action="append", default=[])
    add("-e", "--editable", dest="editables", action="append", default=[])
    add("--hash", dest="hashes", action="append", default=[])
    add("-C", "--config-setting", "--config-settings", dest="config_settings", action="append", default=[])
    add("--global-option", dest="global_options", action="append", default=[])
    add("--use-feature", dest="features", action="append", default=[])
    return parser


def _take_format(option: optparse.Option, name: str, value: str, parser: optparse.OptionParser, form: str) -> None:
    if parser.values:
        parser.values.formats = (*parser.values.formats, (form, value))
