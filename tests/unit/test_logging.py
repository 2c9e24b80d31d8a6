"""Log lines: no launch id stands in one, whoever wrote it."""

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest
import structlog

from services.common.ids import launch_ref
from services.common.keys import Topic
from services.common.logging import configure_logging, get_logger

LAUNCH_ID = "1a2091d5c51" + "0f" * 16
REF = launch_ref(LAUNCH_ID)


@pytest.fixture
def logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What is written to standard error."""
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    root = logging.getLogger()
    before = root.handlers[:], root.level
    configure_logging(service="tests", level="debug")
    yield written
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    root.handlers[:], root.level = before


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (f"/launches/{LAUNCH_ID}/open", f"/launches/{REF}/open"),
        (f"l:{LAUNCH_ID} and {LAUNCH_ID}", f"l:{REF} and {REF}"),
        ([{"path": f"/api/v1/launches/{LAUNCH_ID}"}], [{"path": f"/api/v1/launches/{REF}"}]),
        (Topic("l", LAUNCH_ID), ["l", REF]),
        (LAUNCH_ID.encode(), repr(REF.encode())),
        (ValueError(LAUNCH_ID), f"ValueError('{REF}')"),
        ("a" * 40, "a" * 40),
        ("a" * 64, "a" * 64),
        (7, 7),
        (None, None),
    ],
)
def test_a_line_of_ours_names_launches_by_their_ref(value: object, shown: object, logs: io.StringIO) -> None:
    get_logger("ours").debug("request", path=value)
    assert json.loads(logs.getvalue())["path"] == shown


def test_a_line_of_a_library_does_too_and_its_traceback(logs: io.StringIO) -> None:
    try:
        raise ValueError(f"no l:{LAUNCH_ID}")
    except ValueError:
        logging.getLogger("library").exception("failed at %s", LAUNCH_ID)
    written = logs.getvalue()
    assert json.loads(written)["event"] == f"failed at {REF}"
    assert f"ValueError: no l:{REF}" in written
    assert LAUNCH_ID not in written
