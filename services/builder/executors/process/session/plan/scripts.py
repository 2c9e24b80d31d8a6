"""postBuild and start: whether they can be run, and by what."""

from services.builder.executors.process.session.errors import build_failed
from services.builder.executors.process.session.plan.build_plan import Script
from services.builder.executors.process.session.plan.checkout import Checkout

_FIRST_LINE_BYTES = 256


def read_script(checkout: Checkout, name: str) -> Script | None:
    """Return the script of this name; None if there is none. It need not be executable yet.

    A script without a first line like #!/bin/bash, or with a byte order mark before it, is run by sh, as a shell does
    that can't start it. Raise `StepError` for Windows line endings, which neither sh nor the system can read.
    """
    path = checkout.find(name)
    if path is None:
        return None

    with path.open("rb") as script:
        first_line = script.readline(_FIRST_LINE_BYTES)
    if first_line.endswith(b"\r\n"):
        raise build_failed(
            f"{checkout.name(path)} has Windows line endings: save it with Unix ones, so that it can be run"
        )
    return Script(path, is_program=first_line.startswith((b"#!", b"\x7fELF")))
