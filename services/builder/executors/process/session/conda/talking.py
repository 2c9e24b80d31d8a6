"""Lines for the build's log, without the operator's credentials."""

import json
import os
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from services.builder.executors.process.session.environment import CONDA_CREDENTIALS
from services.builder.executors.redaction import Redaction


def take_credentials() -> str | None:
    """Return the path of the operator's file, and take it out of this process's environment."""
    _redaction()
    return os.environ.pop(CONDA_CREDENTIALS, None)


def say(line: str) -> None:
    """Print a line for the log at once. A secret of the operator's file in it is blanked."""
    sys.stdout.write(f"{blanked(line)}\n")
    sys.stdout.flush()


def blanked(text: str) -> str:
    """Return a text without the secrets of the operator's file."""
    return _redaction()(text)


@cache
def _redaction() -> Redaction:
    try:
        content = json.loads(Path(os.environ[CONDA_CREDENTIALS]).read_bytes())
    except (KeyError, OSError, ValueError):
        return Redaction()
    return Redaction(_texts(content))


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
