"""docs/errors.md: the closed list of error codes, by the step of a launch that they belong to."""

from docs.generate.advice import ADVICE
from docs.generate.markdown import NOTE, table
from services.common.models.error_codes import KINDS, ErrorKind

PHASES = {
    None: "The request",
    "resolving": "Finding the repository",
    "building": "Building its environment",
    "launching": "Starting its server",
}
"""The headings of the page, by the phase of a launch."""

MOVERS = {"user": "yours", "author": "the author's", "operator": "the operator's", "upstream": "the host's"}


def errors_page() -> str:
    """Return the page."""
    parts = [
        f"# Errors\n\n{NOTE}\n",
        "Every error that Bindery shows has one of these codes. You find the code in the `code` of an answer "
        "(`application/problem+json`), in the `error` of a launch, a build or an event, on the page, and in square "
        "brackets at the end of what `bindery launch` prints. The list is closed: a program may rely on it, and treats "
        "a code that it does not know as `unknown`.\n\n"
        "*Move* says who can do something about it: you, the author of the repository, the operator of this Bindery, "
        "or the host of the repository. *Retry* says whether the same request can succeed later, and how long to wait "
        "at least.\n",
    ]
    for phase, title in PHASES.items():
        rows = [_row(kind) for kind in KINDS.values() if kind.phase == phase]
        parts.append(f"## {title}\n\n{table(('Code', 'HTTP', 'Move', 'Retry', 'Title, and what to do'), rows)}")
    return "\n".join(parts)


def _row(kind: ErrorKind) -> tuple[str, ...]:
    if kind.code not in ADVICE:
        raise SystemExit(f"docs/generate/advice.py has no advice for the error {kind.code}: add it.")

    advice = f"*{kind.title}.* {ADVICE[kind.code]}"
    return f"`{kind.code}`", str(kind.status), MOVERS[kind.mover], _retry(kind), advice


def _retry(kind: ErrorKind) -> str:
    if not kind.can_retry:
        return "no"
    return f"after {kind.retry_after_seconds:g} s" if kind.retry_after_seconds else "yes"
