"""Why a build ends without an image."""


class StepError(Exception):
    """A step of a build that failed; `code` is from the closed list and `message` is for whoever reads the log."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def build_failed(message: str) -> StepError:
    """Something that the repository's author can mend."""
    return StepError("build_failed", message)
