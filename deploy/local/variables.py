"""The environment of each component: the variables of all, and those of the user that it gets besides.

A component gets the variables that it reads and no others. So a secret set for one, as a token of GitHub is for the
resolver, is in the reach of that one alone. `variables.json` lists the settings of each kind of component, and all; it
is generated from the services' settings and the hub's configuration, which `deploy/local` does not import.
"""

import difflib
import json
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from deploy.local.settings import Settings

VARIABLES_FILE = "deploy/local/variables.json"
"""Written by `make docs`."""

EVERY_SETTING = "every setting"
"""The key of the file under which all settings are listed, also those that no component gets."""

_PREFIX = "BINDERY_"
_FOR_TESTS = "BINDERY_TEST_"

# What every component gets of the user's environment. Credentials in it that are for other programs stay out.
PASSED = (
    *("HOME", "LANG", "LANGUAGE", "LOGNAME", "PATH", "SHELL", "TMPDIR", "TZ", "USER"),
    *("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"),
)
PASSED_PREFIXES = ("LC_", "SSL_CERT_", "XDG_")

GIT_PREFIXES = ("GIT_SSL_",)
PACKAGE_PREFIXES = ("PIP_", "RATTLER_AUTH_", "UV_")
"""Package indexes and channels with their credentials: for the component that installs packages."""

_PREFIXES = {"resolver": GIT_PREFIXES, "builder": GIT_PREFIXES, "worker": GIT_PREFIXES + PACKAGE_PREFIXES}


def shared_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of every component: the allowed ones of the user's, our programs first in PATH."""
    inherited = {
        name: value
        for name, value in environ.items()
        if name.upper() in PASSED or name.startswith(PASSED_PREFIXES)  # proxies are often named in lower case
    }
    without_proxy = filter(None, (environ.get("no_proxy") or environ.get("NO_PROXY"), "127.0.0.1,localhost"))
    no_proxy = ",".join(without_proxy)

    return inherited | {
        "NO_PROXY": no_proxy,
        "no_proxy": no_proxy,
        "PATH": f"{Path(sys.executable).parent}:{environ.get('PATH', '/usr/local/bin:/usr/bin:/bin')}",
        "PYTHONUNBUFFERED": "1",
        "PYTHONNOUSERSITE": "1",
    }


def variables_of(kind: str, settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the user's variables that a kind of component gets beside those of every component."""
    names = read_by(kind) | set(settings.part_environment.get(kind, ()))
    prefixes = _PREFIXES.get(kind, ())
    return {name: value for name, value in environ.items() if name in names or name.startswith(prefixes)}


def read_by(kind: str) -> set[str]:
    """Return the names of the settings that a kind of component reads."""
    return set(_table().get(kind, ()))


def unknown_variables(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables `BINDERY_…` that nothing reads, each with the most similar setting, or "" without one.

    A variable that `part_environment` passes to a component is read there, by an extension for instance.
    """
    every_setting = _table()[EVERY_SETTING]
    passed_on = {name for names in settings.part_environment.values() for name in names}
    unknown = {}
    for name in sorted(set(environ) - set(every_setting) - passed_on):
        if name.startswith(_PREFIX) and not name.startswith(_FOR_TESTS):
            unknown[name] = next(iter(difflib.get_close_matches(name, every_setting, n=1, cutoff=0.75)), "")
    return unknown


@cache
def _table() -> dict[str, list[str]]:
    table: dict[str, list[str]] = json.loads(Path(__file__).with_name("variables.json").read_text())
    return table
