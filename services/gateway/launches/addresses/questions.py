"""Asking the forge which part of a page's address is the branch: the one question that a reading may leave."""

import asyncio
import re
from dataclasses import dataclass

from services.common.models import RefQuestion
from services.common.models.errors import BinderyError
from services.common.service.logging import get_logger
from services.common.service.redaction import quotable
from services.gateway.backends import Backends
from services.gateway.launches.addresses.reading import Reading
from services.gateway.launches.links import Link
from services.gateway.launches.repository_types import RepositoryType

log = get_logger(__name__)

_SHORT_SHA = re.compile(r"[0-9a-f]{7,39}")
_OLD_DEFAULTS = frozenset({"master", "main"})


@dataclass(frozen=True, kw_only=True)
class Detected:
    """What an address means.

    `notice` is a sentence about how it was understood, or empty. With `is_guess` it says what could not be asked; the
    link is then the reading with the shortest ref.
    """

    link: Link
    repository_type: RepositoryType
    ref: str
    notice: str = ""
    is_guess: bool = False


async def settled(reading: Reading, backends: Backends, *, timeout_seconds: float) -> Detected:
    """Return what a reading means; if it has several candidates, the one with the longest ref that exists.

    Raise `BinderyError`: `ref_not_found` if the repository has none of the refs, and `banned`, `address_not_allowed`,
    `bad_spec` or `unknown_provider` if it may not be asked. If the forge does not answer, within `timeout_seconds` or
    at all, that is told by the notice.
    """
    if reading.is_clear:
        return _chosen(reading, 0)

    refs = [candidate.ref for candidate in reading.candidates]
    question = RefQuestion(provider=reading.repository_type.id, repository=reading.repository, refs=tuple(refs))
    try:
        async with asyncio.timeout(timeout_seconds):
            existing = await backends.existing_refs(question)
    except TimeoutError:
        return _guess(reading, f"There was no answer within {timeout_seconds:g} s.")
    except BinderyError as error:
        if error.has_code("banned", "address_not_allowed", "bad_spec", "unknown_provider"):
            raise
        log.info("refs_not_asked", code=error.code, detail=error.detail)
        return _guess(reading, error.detail)

    for at, ref in enumerate(refs):
        if ref in existing:
            return _chosen(reading, at)
    if _SHORT_SHA.fullmatch(refs[-1]) or refs[-1] in _OLD_DEFAULTS:
        return _chosen(reading, len(refs) - 1)  # no listing has it, but the forge may know it all the same
    raise BinderyError(
        "ref_not_found", f"None of these is a branch or tag of the repository: {quotable(', '.join(refs))}."
    )


def _chosen(reading: Reading, at: int) -> Detected:
    candidate = reading.candidates[at]
    return Detected(
        link=candidate.link, repository_type=reading.repository_type, ref=candidate.ref, notice=reading.notice
    )


def _guess(reading: Reading, reason: str) -> Detected:
    candidate = reading.candidates[-1]
    longest = reading.candidates[0].ref
    notice = (
        f"It could not be asked where the branch's name ends in {quotable(longest)!r}. {reason} "
        f"{quotable(candidate.ref)!r} is taken for it: if that is wrong, fill in the branch."
    )
    return Detected(
        link=candidate.link, repository_type=reading.repository_type, ref=candidate.ref, notice=notice, is_guess=True
    )
