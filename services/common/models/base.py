"""Base classes of the contract's models."""

from enum import StrEnum
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

RECORD_VERSION = 1
"""Written as `v` into every stored record, event and job argument."""


class Contract(BaseModel):
    """A frozen model that ignores unknown fields, so that a newer writer does not break an older reader."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    def updated(self, **changes: object) -> Self:
        """Return a copy with some fields changed."""
        return self.model_copy(update=changes)


class OpenEnum(StrEnum):
    """An enumeration whose values may grow: one that this release doesn't know reads as `unknown`."""

    @classmethod
    def _missing_(cls, value: object) -> Any:
        return cls.__members__.get("UNKNOWN")


def faults_of(error: ValidationError) -> str:
    """Return which fields of a model can't be read and why, without their values: those may be secret."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{'.'.join(str(part) for part in fault['loc']) or 'body'}: {fault['type']}" for fault in faults)


class Queue(Contract):
    """The reason for a wait, and the position in the queue.

    `position` is 1-based; `eta_seconds` is null if there is no estimate.
    """

    reason: str
    position: int | None = None
    eta_seconds: float | None = None
