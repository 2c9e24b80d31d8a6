"""Plug-ins of an operator, installed as entry points: one that can't be loaded is named in a sentence."""

import contextlib
from collections.abc import Iterator

from services.common.service.start import CannotStart, start_sentence


@contextlib.contextmanager
def loading_plugin(name: str, group: str, *, service: str, setting: str = "") -> Iterator[None]:
    """Raise `CannotStart`, which names the plug-in, for whatever its code raises in the block.

    `setting` is the one that selects the plug-in, if one does. An error that has a sentence of its own is passed on.
    """
    try:
        yield
    except Exception as error:  # whatever an operator's module raises when it is imported or called
        if start_sentence(error):
            raise
        why = f"{type(error).__name__}: {error}"
        raise plugin_refused(name, group, f"can't be loaded ({why})", service=service, setting=setting) from error


def plugin_refused(name: str, group: str, fault: str, *, service: str, setting: str = "") -> CannotStart:
    """Return the error of a service whose plug-in has a fault, such as "is no async function"."""
    remedy = f", or name another one in {setting}" if setting else ""
    return CannotStart(
        f"The {service} can't start: the entry point {name} of {group} {fault}. Mend or remove its package{remedy}."
    )
