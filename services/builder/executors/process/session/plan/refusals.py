"""The refusal of what a process without a container cannot provide."""

from services.builder.executors.process.session.errors import StepError


class NowhereError(StepError):
    """The refusal of what no executor builds."""


def unsupported(file: str, feature: str) -> StepError:
    """Return the error for a file that asks for `feature`; it names the executors that build it."""
    return StepError(
        "unsupported_repository",
        f"{file}: the process executor can't build {feature}. "
        "The kubernetes and docker executors can: they build with repo2docker",
    )


def quoted(value: object) -> str:
    """Return a value of an author for a message: its repr, cut after 100 characters."""
    return cut(repr(value), 100)


def cut(text: str, length: int = 300) -> str:
    """Return a text that may quote an author, cut after `length` characters."""
    return f"{text[:length]}…" if len(text) > length else text
