"""Events that the next release wrote are followed by this one: after a rollback, or during a rolling update."""

import json

import pytest

from services.common.models import Event, Phase, Problem
from services.common.models.errors import BinderyError
from services.common.streams.entries import Entry
from services.common.streams.event_format import PLAIN, EventFormat
from services.gateway.streaming.event_formats import FACADE, V1

ERROR = {
    "type": "about:blank",
    "title": "New",
    "status": 500,
    "code": "of_tomorrow",
    "whose_move": "robot",
    "hint": "?",
}
EVENTS = [
    {"v": 2, "phase": "checking", "message": "Checking ...\n", "signed_by": {"key": 1}},
    {"v": 2, "phase": "failed", "message": "No.\n", "state": "refused", "error": ERROR, "terminal": True},
]


@pytest.mark.parametrize("form", [V1, FACADE, PLAIN], ids=lambda form: form.name)
def test_an_unknown_phase_field_state_and_error_code_reach_followers(form: EventFormat) -> None:
    entry = Entry.first("1-0", json.dumps(EVENTS, separators=(",", ":")).encode())
    assert entry.is_terminal
    rendered = [json.loads(data) for data in (form.render(event, False) for event in entry.events) if data]
    assert [(event["phase"], event["message"]) for event in rendered] == [
        ("checking", "Checking ...\n"),
        ("failed", "No.\n"),
    ]
    if form is not FACADE:
        assert rendered[1]["error"]["code"] == "of_tomorrow"


def test_a_field_more_in_an_entry_is_ignored() -> None:
    fields = {b"n": b"1", b"l": b"0", b"b": b"0", b"d": json.dumps(EVENTS).encode(), b"z": b"zstd"}
    assert [event["phase"] for event in Entry.stored((b"1-0", fields)).events] == ["checking", "failed"]


def test_models_read_what_they_do_not_know_as_unknown() -> None:
    event = Event.model_validate(EVENTS[1] | {"phase": "checking"})
    assert event.phase is Phase.UNKNOWN
    assert isinstance(event.error, Problem)
    assert BinderyError.of(event.error).code == "unknown"
