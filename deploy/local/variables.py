"""What of the user's environment each part gets: what it reads, and nothing else.

A secret that is set for one part, as a token of GitHub is for the resolver, is then in the reach of that part alone.
`variables.json` lists whose settings are whose; it is made from the services' settings and the hub's configuration,
since nothing of `deploy/local` imports those.
"""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from deploy.local.settings import Settings

VARIABLES_FILE = "deploy/local/variables.json"
"""Made by `make docs`."""

OF_GIT = ("GIT_SSL_",)
OF_PACKAGES = ("PIP_", "UV_")
"""Indexes, with their credentials: for who installs packages."""

_PREFIXES = {"resolver": OF_GIT, "builder": OF_GIT, "worker": OF_GIT + OF_PACKAGES}


def variables_of(part: str, settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """What a part, named without its number, gets of the user's variables beside what every part gets."""
    names = read_by(part) | set(settings.part_environment.get(part, ()))
    prefixes = _PREFIXES.get(part, ())
    return {name: value for name, value in environ.items() if name in names or name.startswith(prefixes)}


def read_by(part: str) -> set[str]:
    """The settings that a part, named without its number, reads."""
    return set(_table().get(part, ()))


@cache
def _table() -> dict[str, list[str]]:
    found: dict[str, list[str]] = json.loads(Path(__file__).with_name("variables.json").read_text())
    return found
