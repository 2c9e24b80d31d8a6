"""A record as Redis holds it: the fields of a build, a launch or a server, and what can be read from them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pydantic import ValidationError

from services.common.models import RECORD_VERSION, Build, Contract, Launch, ResolvedRepo, Server, Visibility
from services.common.models.base import faults_of
from services.common.models.errors import BinderyError
from services.common.redis.keys import Kind, Topic

M = TypeVar("M", bound=Contract)

Entity = Build | Launch | Server
"""The subject of a record."""

ENTITIES: Mapping[Kind, type[Entity]] = {Kind.BUILD: Build, Kind.LAUNCH: Launch, Kind.SERVER: Server}
"""The class of the subject of a record, by its kind."""

FieldValue = str | int | float
"""A value of one field; Redis keeps it as a string."""

SHARED_FIELDS = frozenset(
    {
        "v", "epoch", "claim", "owner", "seq", "last", "lines", "bytes", "live", "head", "final",
        "seen", "cancel", "cancel_code", "given_up",
        "adoptions", "on_trial", "failure",
    }
)  # fmt: skip
"""Fields that the scripts keep, or that processes other than the owner write."""


class RecordUnreadable(BinderyError):
    """This release can't read a record: it is damaged, or a newer release wrote it. `reason` names no values."""

    def __init__(self, topic: Topic, reason: str) -> None:
        super().__init__("record_unreadable")
        self.topic = topic
        self.reason = reason


@dataclass(frozen=True)
class StoredRecord:
    """The fields of one record, by name, as they were when it was read."""

    topic: Topic
    fields: Mapping[str, str]

    @classmethod
    def of(cls, topic: Topic, raw: Mapping[bytes, bytes] | Sequence[bytes]) -> "StoredRecord":
        """Decode the reply of HGETALL: a mapping from a client, a flat list from a script."""
        if not isinstance(raw, Mapping):
            raw = dict(zip(raw[::2], raw[1::2], strict=True))
        # What is not UTF-8 is kept as it is, so that it is not read as another text: models refuse it.
        fields = {_text(name): _text(value) for name, value in raw.items()}
        return cls(topic, fields)

    @classmethod
    def named(cls, name: str, raw: Sequence[bytes]) -> "StoredRecord":
        """Decode the fields of a record whose topic a script gives as `<kind>:<id>`."""
        return cls.of(Topic.named(name), raw)

    def model(self, kind: type[M]) -> M:
        """Return the entity. Scripts change only the field `state`, so it takes precedence over the body's.

        Raise `RecordUnreadable`.
        """
        try:
            body = json.loads(self.fields["body"].encode())  # which what is not UTF-8 fails
            if "state" in self.fields:
                body["state"] = self.fields["state"]
            return kind.model_validate(body)
        except ValidationError as error:
            raise RecordUnreadable(self.topic, faults_of(error)) from error
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise RecordUnreadable(self.topic, f"body: {type(error).__name__}") from error

    def number(self, name: str, default: int) -> int:
        """Return the number that the scripts keep in a field, or `default` if it is missing or damaged."""
        text = self.get(name)
        return int(text) if text.isascii() and text.isdigit() else default

    def model_of_field(self, name: str, kind: type[M]) -> M:
        """Return the model in a field of its own. Raise `RecordUnreadable`."""
        try:
            return kind.model_validate_json(self.get(name).encode())
        except ValidationError as error:
            raise RecordUnreadable(self.topic, f"{name}: {faults_of(error)}") from error
        except ValueError as error:  # not UTF-8
            raise RecordUnreadable(self.topic, f"{name}: {type(error).__name__}") from error

    def check_readable(self) -> None:
        """Raise `RecordUnreadable` if this release can't work on the record: it must understand version and state.

        To be shown, a record needs less: a state of a newer release is shown as `unknown`.
        """
        entity = self.model(ENTITIES[self.topic.kind])
        if entity.v > RECORD_VERSION:
            raise RecordUnreadable(self.topic, f"v: {entity.v}")
        if entity.state == "unknown":
            raise RecordUnreadable(self.topic, f"state: {self.get('state')!r:.40}")

    def get(self, name: str, default: str = "") -> str:
        """Return the value of a field, or `default` if it is not set."""
        return self.fields.get(name, default)

    @property
    def epoch(self) -> int:
        """Number of times that the record was handed to an owner."""
        return self.number("epoch", 0)

    @property
    def owners_fields(self) -> dict[str, FieldValue]:
        """Fields that only the owner writes: what it needs to write the whole record a second time."""
        return {name: value for name, value in self.fields.items() if name not in SHARED_FIELDS}


def is_public(build: StoredRecord) -> bool:
    """Return whether anyone may read a build's repository; False if its record does not say so."""
    try:
        return build.model_of_field("repo", ResolvedRepo).visibility is Visibility.PUBLIC
    except RecordUnreadable:
        return False


def _text(raw: bytes) -> str:
    return raw.decode(errors="surrogateescape")
