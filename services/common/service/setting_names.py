"""The names of all settings, of whichever service, and what becomes of a name that is not among them.

One YAML file is shared by all services, and one environment may be: so each service must know the names of the others
too. As no service imports another, `make docs` writes the list from their settings classes into
`setting_names.json`. A plugin reads settings of its own from the environment, under a prefix of its own.
"""

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from services.common.service.logging import get_logger

log = get_logger(__name__)

NAMES_FILE = "services/common/service/setting_names.json"
"""Written by `make docs`."""
PREFIX = "BINDERY_"
_FOR_TESTS = f"{PREFIX}TEST_"
_KUBERNETES = re.compile(
    r"_SERVICE_HOST|_SERVICE_PORT(_[A-Z0-9_]+)?|_PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?"
)
"""The ends of the variables that Kubernetes sets for each Service of a namespace, such as one called bindery-gateway.

Source: kubernetes.io/docs/concepts/services-networking/service, "Environment variables".
"""


class SettingsFileError(ValueError):
    """The YAML file can't be read as settings. The message says why, without what is in it, which may be secret."""


class UnknownSettingError(SettingsFileError):
    """The YAML file has names that no service knows. The message says which, and what they may have meant."""


def refuse_unknown_names(names: Iterable[str], *, source: str) -> None:
    """Raise `UnknownSettingError` if one of the names, which were read from the file `source`, is no service's."""
    known_names = _names()["services"]
    unknown = [name for name in names if name not in known_names]
    if not unknown:
        return

    complaints = []
    for name in unknown:
        spelled = name.lower().removeprefix(PREFIX.lower())
        complaints.append(f"{name!r}{_suggestion(spelled, known_names)}")
    raise UnknownSettingError(f"{source} has settings that no service knows: {', '.join(complaints)}.")


def warn_of_unknown_variables(environ: Mapping[str, str]) -> None:
    """Log a warning for each variable `BINDERY_…` that no part of Bindery reads.

    A warning and not an error: another program may have named a variable so. Those of our tests, and those that
    Kubernetes makes of a Service's name, are passed over.
    """
    known_names = _names()["environment"]
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in known_names or name.startswith(_FOR_TESTS):
            continue
        if _is_of_kubernetes(name, environ):
            continue
        log.warning("setting_unknown", variable=name, closest=_closest(name, known_names))


def warn_of_overridden_settings(file_settings: Mapping[str, object], environ: Mapping[str, str]) -> None:
    """Log a warning for each setting of the YAML file that a variable sets to something else.

    Whoever wrote it there may not know of the variable: docker-compose.yml sets some.
    """
    for name, value in file_settings.items():
        variable = f"{PREFIX}{name.upper()}"
        if variable in environ and not _is_written_as(environ[variable], value):
            log.warning("setting_overridden", setting=name, variable=variable)


def _is_written_as(text: str, value: object) -> bool:
    """Return whether a variable with this text is the same as `value` in the YAML file."""
    if isinstance(value, str):
        return text == value
    try:
        return bool(json.loads(text) == value)
    except ValueError:
        return False


def _is_of_kubernetes(name: str, environ: Mapping[str, str]) -> bool:
    """Return whether Kubernetes made the variable: a Service's host is set beside all others of that Service."""
    ending = _KUBERNETES.search(name)
    if ending is None or ending.end() != len(name):
        return False
    return f"{name[: ending.start()]}_SERVICE_HOST" in environ


def _suggestion(name: str, known_names: frozenset[str]) -> str:
    closest = _closest(name, known_names)
    return f" (did you mean {closest!r}?)" if closest else ""


def _closest(name: str, known_names: frozenset[str]) -> str | None:
    """Return the known name that is spelled most like `name`; None if none is similar."""
    return next(iter(difflib.get_close_matches(name, sorted(known_names), n=1, cutoff=0.75)), None)


@cache
def _names() -> dict[str, frozenset[str]]:
    table: dict[str, list[str]] = json.loads(Path(__file__).with_suffix(".json").read_text())
    return {kind: frozenset(names) for kind, names in table.items()}
