"""Output of the commands, and errors for their user."""

import re
import sys

_UNPRINTABLE = re.compile(r"\x1b\[[0-9;]*m|[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class CommandError(Exception):
    """A command failed; the message is for the user."""


def printable(text: str) -> str:
    """Return `text` without control characters: a repository's build must not control the user's terminal."""
    return _UNPRINTABLE.sub("", text)


def with_code(message: str, code: str) -> str:
    """Return a message, followed by the code of its error if there is one."""
    return f"{message} [{code}]" if code else message


def print_error(line: str) -> None:
    """Print a line to standard error at once, without control characters."""
    print(printable(line), file=sys.stderr, flush=True)
