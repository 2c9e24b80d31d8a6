"""docs/settings.md: every setting, by the services that read it."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr, TypeAdapter
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from deploy.local.settings import CHECKOUT
from docs.generate.markdown import NOTE, table
from docs.generate.up_variables import UpVariables, hub_defaults, up_variables
from docs.generate.variables import GROUPS, HUB, OTHERS, variable_of

UNITS = {
    "_seconds": [(86400, "d"), (3600, "h"), (60, "min")],
    "_bytes": [(2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")],
}
"""Larger units for a setting's default, by the ending of its name."""

INTRODUCTION = """\
A setting is an environment variable. Durations are in seconds and sizes in bytes, as the names say. With `make up`, \
write them before the command:

```sh
BINDERY_PORT=9585 BINDERY_WORKERS=2 make up
```

With Docker Compose they are in `.env`, or in a file: [how](compose.md#settings). Some are for its containers alone: \
`.env.example` explains them.

Values that are lists of links are JSON: `BINDERY_BANNED_SPECS='{"gh": ["spammer/.*"]}'`.

**†** marks a setting that `make up` sets itself, so that a value of yours has no effect there. Such a setting matters \
only if you run the services in another way.

## The file

Services also read a YAML file, which `BINDERY_CONFIG_FILE` names. In the file, names are in lower case and without \
the prefix (`seats_total: 20`). A variable takes precedence over the file.

All services may share one file: each reads its own settings and ignores those of the others. **A name that no service \
has is refused**: the service does not start, and its error has the path of the file, the name, and the known name \
that is most similar, if there is one.

## Unknown variables

A service that finds a variable `BINDERY_…` that nothing reads starts all the same, and logs a warning: \
`setting_unknown`, with the name that is most similar in `closest`. With `make up` a service gets only variables that \
it reads: there, the first lines of `make up` name a misspelled one, and so does `bindery doctor`.
"""


@dataclass(frozen=True)
class Setting:
    """A row of the page."""

    variable: str
    default: str
    meaning: str


def settings_page() -> str:
    """Return the page."""
    up = up_variables()
    parts = [f"# Settings\n\n{NOTE}\n", INTRODUCTION]

    for title, kind, readers in GROUPS:
        settings = _settings_of(kind, up)
        parts.append(f"## {title}\n\n{readers}\n\n{_table(settings, up.forced)}")

    defaults = hub_defaults()
    hub = [Setting(variable, defaults.get(variable, "none"), meaning) for variable, meaning in HUB.items()]
    parts.append(f"## The hub's configuration\n\nRead by `deploy/jupyterhub`.\n\n{_table(hub, up.forced)}")

    others = [Setting(variable, default, meaning) for variable, (default, meaning) in OTHERS.items()]
    parts.append(f"## Elsewhere\n\n{_table(others, set())}")
    return "\n".join(parts)


def _settings_of(kind: type[BaseSettings], up: UpVariables) -> list[Setting]:
    """Return the settings that a class adds to those of its bases."""
    inherited = {name for base in kind.__bases__ for name in getattr(base, "model_fields", {})}
    own = {name: field for name, field in kind.model_fields.items() if name not in inherited}
    return [_setting(name, field, up) for name, field in own.items()]


def _setting(name: str, field: FieldInfo, up: UpVariables) -> Setting:
    variable = variable_of(name)
    default = _default(name, field)
    if variable in up.preset:
        default += f"; `make up`: `{up.preset[variable]}`"
    return Setting(variable, default, field.description or "")


def _default(name: str, field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if isinstance(value, SecretStr) and field.default_factory:
        return "a new one at each start"
    if isinstance(value, SecretStr):
        value = value.get_secret_value()

    if isinstance(value, Path) and value.is_absolute():
        value = value.relative_to(CHECKOUT)
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, dict) and value:
        entries = TypeAdapter(dict[str, Any]).dump_python(value, mode="json", exclude_defaults=True)
        return f"`{json.dumps(entries)}`"
    if value is None:
        return "none"
    if value in ("", {}):
        return "empty"
    if isinstance(value, int | float):
        return _number(name, value)
    return f"`{value}`"


def _number(name: str, value: float) -> str:
    """Return a number and, in brackets, the same in the largest unit of which it is a multiple."""
    number = f"`{int(value) if value == int(value) else value}`"
    for ending, units in UNITS.items():
        if not name.endswith(ending):
            continue
        for size, unit in units:
            if value >= size and value % size == 0:
                return f"{number} ({value / size:g} {unit})"
    return number


def _table(settings: Iterable[Setting], forced: set[str]) -> str:
    rows = []
    for setting in settings:
        mark = " †" if setting.variable in forced else ""
        rows.append((f"`{setting.variable}`{mark}", setting.default, setting.meaning))
    return table(("Setting", "Default", "Meaning"), rows)
