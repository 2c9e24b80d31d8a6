"""The exception that carries an error code."""

from typing import Self

from services.common.models.error_codes import KINDS, ErrorCode, known_code
from services.common.models.problem import Cause, Problem


class BinderyError(Exception):
    """An error with a code from the closed list; `detail` is a plain sentence for the reader of the error.

    `cause` quotes the log of a build that failed.

    Raise `KeyError` for a code that is not in the list.
    """

    def __init__(
        self,
        code: ErrorCode,
        detail: str = "",
        *,
        retry_after_seconds: float | None = None,
        extra: dict[str, str] | None = None,
        cause: Cause | None = None,
    ) -> None:
        super().__init__(detail or KINDS[code].title)
        self.kind = KINDS[code]
        self.detail = detail or f"{self.kind.title}."
        self.retry_after_seconds = retry_after_seconds or self.kind.retry_after_seconds
        self.extra = extra or {}
        self.cause = cause

    @property
    def code(self) -> ErrorCode:
        """The code, from the closed list."""
        return self.kind.code

    @property
    def problem(self) -> Problem:
        """The error as its reader sees it."""
        kind = self.kind
        return Problem(
            title=kind.title,
            status=kind.status,
            detail=self.detail,
            code=kind.code,
            phase=kind.phase,
            whose_move=kind.mover,
            can_retry=kind.can_retry,
            retry_after_seconds=self.retry_after_seconds,
            cause=self.cause,
        )

    @classmethod
    def of(cls, problem: Problem) -> Self:
        """Return the exception for a problem that another service answered; a code unknown here becomes `unknown`."""
        return cls(
            known_code(problem.code),
            problem.detail,
            retry_after_seconds=problem.retry_after_seconds,
            cause=problem.cause,
        )

    def has_code(self, *codes: ErrorCode) -> bool:
        """Return whether the code is among `codes`; a misspelt one is an error of the type checker."""
        return self.code in codes
