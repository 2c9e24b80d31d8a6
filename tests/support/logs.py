"""The log of the test's process, as lines that a test can search."""

import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from services.common.service.logging import configure_logging


@pytest.fixture
def logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What is written to standard error, through the log as services configure it."""
    output = io.StringIO()
    monkeypatch.setattr(sys, "stderr", output)
    root = logging.getLogger()
    before = root.handlers[:], root.level
    configure_logging(service="tests", level="debug")
    yield output
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    root.handlers[:], root.level = before


def line_of(logs: io.StringIO, event: str) -> dict[str, Any]:
    """Return the last line with an event."""
    entries = [json.loads(line) for line in logs.getvalue().splitlines() if line.startswith("{")]
    line: dict[str, Any] = [entry for entry in entries if entry["event"] == event][-1]
    return line
