"""`deploy/local/variables.json`: all settings, and which of the user's `make up` passes to each component."""

import json
import re
from collections.abc import Mapping

from pydantic_settings import BaseSettings

from deploy.local.plan import HUB_CONFIG
from deploy.local.variables import EVERY_SETTING
from docs.generate.variables import VARIABLE, documented_variables, variable_of
from services.builder.executors.docker.settings import DockerSettings
from services.builder.executors.kubernetes.settings import KubernetesSettings
from services.builder.settings import BuilderSettings
from services.gateway.settings import GatewaySettings
from services.launcher.settings import LauncherSettings
from services.resolver.settings import ResolverSettings

READERS: Mapping[str, tuple[type[BaseSettings], ...]] = {
    "gateway": (GatewaySettings,),
    "resolver": (ResolverSettings,),
    "builder": (BuilderSettings, DockerSettings, KubernetesSettings),
    "worker": (BuilderSettings, DockerSettings, KubernetesSettings),
    "launcher": (LauncherSettings,),
}
"""The settings classes of each component that is a service."""

_OF_FORGES = {
    "BINDERY_GITHUB_ACCESS_TOKEN",
    "BINDERY_GITLABS",
    "BINDERY_GITEAS",
    "BINDERY_BITBUCKET_TOKEN",
    "BINDERY_GIT_CREDENTIALS",
}
UNUSED = {
    "resolver": {"BINDERY_INSTALLATION_SECRET"},
    "builder": {"BINDERY_INSTALLATION_SECRET", *_OF_FORGES},
    "worker": {"BINDERY_INSTALLATION_SECRET", "BINDERY_OPERATOR_TOKEN"},
}
"""Secrets that a component's settings class has and the component does not use."""


def component_variables() -> str:
    """Return the file, which `deploy/local/variables.py` reads."""
    variables = {EVERY_SETTING: sorted(documented_variables())}
    for component, kinds in READERS.items():
        read = {variable_of(name) for kind in kinds for name in kind.model_fields} | {"BINDERY_CONFIG_FILE"}
        variables[component] = sorted(read - UNUSED.get(component, set()))

    hub = "".join(file.read_text() for file in sorted(HUB_CONFIG.parent.glob("*.py")))
    variables["hub"] = sorted(set(re.findall(VARIABLE, hub)))
    return json.dumps(variables, indent=1, sort_keys=True) + "\n"
