"""Jobs in arq's queue: their ids, and their format, which is JSON. Nothing from the queue is ever unpickled."""

import json
import re
from typing import Any, Literal

from arq.connections import ArqRedis
from prometheus_client import Counter
from pydantic import BaseModel, ConfigDict, Field

from services.common.context import ProcessContext
from services.common.service.logging import get_logger

log = get_logger(__name__)

REFUSED_JOBS = Counter("bindery_jobs_refused_total", "Jobs in the queue that were refused: not written by this release")

SUPERVISE = "supervise"
"""The name of the only job function."""
FIRST_EPOCH = 1
"""Epoch of a build's first job: no worker has had the build before."""

_YEAR_10000_MS = 253_402_300_800_000
_NUMBER = re.compile(rb"[1-9]\d{0,9}")


class _Job(BaseModel):
    """A job as arq passes it to a serializer: its try, function, arguments and time. arq's loop trusts the types."""

    model_config = ConfigDict(extra="forbid", strict=True)

    t: None
    f: Literal["supervise"]
    a: list[str] = Field(min_length=1, max_length=1)
    k: dict[str, str] = Field(max_length=0)
    et: int = Field(ge=0, lt=_YEAR_10000_MS)


def serialize(data: dict[str, Any]) -> bytes:
    """Return a job, or the result of one, as JSON; an exception in a result becomes its message."""
    return json.dumps(data, default=str).encode()


def deserialize(raw: bytes) -> dict[str, Any]:
    """Return a job from its JSON.

    Raise `ValueError` for anything else: arq then removes the job, and admission hands its build over again. That is
    how builds survive an upgrade from a release that pickled its jobs.
    """
    try:
        return _Job.model_validate_json(raw).model_dump()
    except ValueError as error:
        REFUSED_JOBS.inc()
        why = "it is a pickle" if raw.startswith(b"\x80") else "it is not a job of this release"
        log.warning("job_refused", why=why)
        raise ValueError(f"A job in the queue was not run: {why}.") from error


def open_queue(context: ProcessContext) -> ArqRedis:
    """Return arq's client for the queue of jobs, on the process's own connections."""
    return ArqRedis(
        context.redis.connection_pool,
        job_serializer=serialize,
        job_deserializer=deserialize,
        default_queue_name=context.keys("{queue}:jobs"),
    )


def job_id(prefix: str, build_id: str, epoch: int) -> str:
    """Return arq's id of one supervision. It contains the installation's prefix, as arq's own keys have none."""
    return f"{prefix}:{build_id}.{epoch}"


def parse_job_id(prefix: str, raw: bytes) -> tuple[str, int] | None:
    """Return the build and epoch of a job id; None if it is not the id of one of this installation's jobs."""
    name = raw.decode(errors="replace")
    build_id, _, epoch_text = name.removeprefix(f"{prefix}:").rpartition(".")
    epoch = parse_epoch(epoch_text.encode())
    if not name.isascii() or not name.startswith(f"{prefix}:") or epoch is None:
        return None
    return build_id, epoch


def parse_epoch(raw: bytes) -> int | None:
    """Return the epoch of a build that may be handed to a worker; None if it is none that a job can have."""
    return int(raw) if _NUMBER.fullmatch(raw) else None
