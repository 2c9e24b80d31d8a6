"""The error that ends a build without an image."""

from services.common.models.error_codes import ErrorCode


class StepError(Exception):
    """A step of a build failed; `code` is from the closed list of errors, `message` is shown to the log's readers."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def has_code(self, *codes: ErrorCode) -> bool:
        """Return whether the error has one of `codes`."""
        return self.code in codes


def build_failed(message: str) -> StepError:
    """Return the error for a fault that the repository's author can correct."""
    return StepError("build_failed", message)
