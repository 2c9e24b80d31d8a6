"""A record as Redis holds it: the fields of a build, a launch or a server, and what can be read from them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from services.common.models import Build, Contract, Launch, ResolvedRepo, Server, Visibility
from services.common.redis.keys import Kind, Topic

M = TypeVar("M", bound=Contract)

Entity = Build | Launch | Server
"""The subject of a record."""

FieldValue = str | int | float
"""A value of one field; Redis keeps it as a string."""

SHARED_FIELDS = frozenset(
    {
        "v", "epoch", "claim", "owner", "seq", "last", "lines", "bytes", "live", "head", "final",
        "seen", "cancel", "cancel_code", "given_up",
    }
)  # fmt: skip
"""Fields that the scripts keep, or that processes other than the owner write."""


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
        return cls(topic, {name.decode(): value.decode() for name, value in raw.items()})

    @classmethod
    def named(cls, name: str, raw: Sequence[bytes]) -> "StoredRecord":
        """Decode the fields of a record whose topic a script gives as `<kind>:<id>`."""
        kind, _, topic_id = name.partition(":")
        return cls.of(Topic(Kind(kind), topic_id), raw)

    def model(self, kind: type[M]) -> M:
        """Return the entity. Scripts change only the field `state`, so it takes precedence over the body's."""
        body = json.loads(self.fields["body"])
        if "state" in self.fields:
            body["state"] = self.fields["state"]
        return kind.model_validate(body)

    def get(self, name: str, default: str = "") -> str:
        """Return the value of a field, or `default` if it is not set."""
        return self.fields.get(name, default)

    @property
    def epoch(self) -> int:
        """Number of times that the record was handed to an owner."""
        return int(self.fields.get("epoch", "0"))

    @property
    def owners_fields(self) -> dict[str, FieldValue]:
        """Fields that only the owner writes: what it needs to write the whole record a second time."""
        return {name: value for name, value in self.fields.items() if name not in SHARED_FIELDS}


def is_public(build: StoredRecord) -> bool:
    """Return whether anyone may read a build's repository; False if its record does not say so."""
    repo = build.get("repo")
    return bool(repo) and ResolvedRepo.model_validate_json(repo).visibility is Visibility.PUBLIC
