"""The error that ends a build without an image."""


class StepError(Exception):
    """A step of a build failed; `code` is from the closed list of errors, `message` is shown to the log's readers."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def build_failed(message: str) -> StepError:
    """Return the error for a fault that the repository's author can correct."""
    return StepError("build_failed", message)
