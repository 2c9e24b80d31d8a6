"""What commands run from a checkout of Bindery, such as the embedded stack; the wheel does not contain it."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bindery.cli.terminal import CommandError

if TYPE_CHECKING:
    from deploy.local.settings import Settings

CHECKOUT = Path(__file__).resolve().parents[2]
NO_CHECKOUT = (
    "`bindery {command}` runs from a checkout of Bindery, and this is only the client: clone the repository and "
    "run `make {target}` in it."
)
WINDOWS = "Bindery runs on Linux and macOS. On Windows, run it inside WSL2: `wsl --install`, then `make up` in there."


@contextlib.contextmanager
def checkout(command: str, *, target: str = "up") -> Iterator[None]:
    """Let the block import `deploy`; `target` of the Makefile installs what it needs.

    Raise `CommandError` if this is not a checkout, or if a package is missing.
    """
    if not (CHECKOUT / "deploy" / "local").is_dir():
        raise CommandError(NO_CHECKOUT.format(command=command, target=target))
    if str(CHECKOUT) not in sys.path:
        sys.path.insert(0, str(CHECKOUT))

    try:
        yield
    except ModuleNotFoundError as error:
        missing = f"The Python package {error.name} is missing here: run `make {target}` in {CHECKOUT}."
        raise CommandError(missing) from error


@contextlib.contextmanager
def embedded_stack(command: str) -> Iterator["Settings"]:
    """Yield the settings of the embedded stack, and import `deploy` only in the block.

    Raise `CommandError` as `checkout` does, on Windows, and for a `StartupError` of the block.
    """
    if sys.platform == "win32":
        raise CommandError(WINDOWS)

    with checkout(command):
        from deploy.local.settings import StartupError, read_settings

        try:
            yield read_settings()
        except StartupError as error:
            raise CommandError(str(error)) from error
