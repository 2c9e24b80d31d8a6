"""The variables that `make up` sets for its components, and the defaults of the hub's configuration."""

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from deploy.local.installation import Installation
from deploy.local.plan import HUB_CONFIG, plan_components
from deploy.local.ports import HeldPort, Ports
from deploy.local.settings import Settings as UpSettings
from docs.generate.variables import GROUPS, variable_of


@dataclass(frozen=True)
class UpVariables:
    """The variables that `make up` sets."""

    forced: set[str]
    """Those that it sets whatever the user has set."""
    preset: Mapping[str, str]
    """Those that it sets if the user has not, with their values."""


def up_variables() -> UpVariables:
    """Return what `make up` sets, by planning its components twice: with every variable set, and with none."""
    with tempfile.TemporaryDirectory() as folder:
        settings = _default_settings(Path(folder))
        users = dict.fromkeys((variable_of(name) for _, kind, _ in GROUPS for name in kind.model_fields), "users")
        forced = _changed_by_up(settings, users)
        preset = _changed_by_up(settings, {})

    own = {variable_of(name) for name in UpSettings.model_fields}  # it passes these on as the user set them
    return UpVariables(set(forced) - own, {name: value for name, value in preset.items() if name not in forced})


def hub_defaults() -> dict[str, str]:
    """Return the defaults of the hub's configuration, by variable, as code in Markdown."""
    texts = "".join(file.read_text() for file in sorted(HUB_CONFIG.parent.glob("*config*.py")))
    defaults = re.findall(r"environ\.get\([\"'](BINDERY_\w+)[\"'], [\"'](\w*)[\"']\)", texts)
    return {name: f"`{value}`" for name, value in defaults if value}


def _default_settings(folder: Path) -> UpSettings:
    """Return the settings of `make up` with their defaults, whatever the environment has."""
    fields = UpSettings.model_fields.items()
    defaults = {name: field.get_default(call_default_factory=True) for name, field in fields}
    return UpSettings.model_construct(**defaults | {"data_dir": folder})


def _changed_by_up(settings: UpSettings, environ: Mapping[str, str]) -> dict[str, str]:
    """Return Bindery's variables of all components that differ from the user's."""
    any_port = HeldPort(0, ())
    ports = Ports(gateways=(HeldPort(settings.port, ()),), proxy=any_port, proxy_api=any_port, hub=any_port)
    components = plan_components(settings, Installation(), httpx.AsyncClient(), environ, ports)
    return {
        name: value
        for component in components
        for name, value in component.environment.items()
        if name.startswith("BINDERY_") and value != environ.get(name)
    }
