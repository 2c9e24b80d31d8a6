"""`Problem`: an error as its reader sees it (RFC 9457)."""

from services.common.models.base import Contract
from services.common.models.error_codes import ErrorCode

PROBLEM_MEDIA_TYPE = "application/problem+json"


class Cause(Contract):
    """The lines of a build's log that say why it failed, quoted.

    `text` has one line, or a few with line feeds between them. The log that is read `after` this position begins with
    the first of them; it is empty if the log itself does. `rule` names the kind of sentence, as `<program>:<kind>`, or
    `last-lines` if it is only what a program printed last. Texts and rules may change between releases.
    """

    text: str
    after: str = ""
    rule: str


class Problem(Contract):
    """The body of an `application/problem+json` reply, and the reason of a failed build, launch or server.

    `code` comes from the closed list in `services.common.models.error_codes`, or is a newer release's. `whose_move`
    says who can do something about the error. `retry_after_seconds` is null if a retry can't help or no time is known.
    `cause` is null unless a build failed and its log says why; `detail` then begins with its text, or has it already.
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
    cause: Cause | None = None

    def has_code(self, *codes: ErrorCode) -> bool:
        """Return whether the code is among `codes`; a misspelt one is an error of the type checker."""
        return self.code in codes
