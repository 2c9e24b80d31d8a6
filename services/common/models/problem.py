"""`Problem`: an error as its reader sees it (RFC 9457)."""

from services.common.models.base import Contract

PROBLEM_MEDIA_TYPE = "application/problem+json"


class Problem(Contract):
    """The body of an `application/problem+json` reply, and the reason of a failed build, launch or server.

    `code` comes from the closed list in `services.common.models.errors`; `whose_move` says who can do something about
    it; `retry_after_seconds` is null where trying again can't help or no time is known.
    """

    type: str = "about:blank"
    title: str
    status: int
    detail: str = ""
    code: str
    phase: str | None = None
    whose_move: str = "operator"
    can_retry: bool = False
    retry_after_seconds: float | None = None
