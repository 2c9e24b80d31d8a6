"""The choice of a source of logins: one of our own, or one of the entry point group `bindery.registries`."""

from collections.abc import Callable
from importlib.metadata import entry_points

from services.builder.registry.credentials import Credentials
from services.builder.registry.docker_config import DockerConfig
from services.builder.registry.google import GoogleMetadata
from services.builder.registry.settings import RegistrySettings
from services.common.service.plugins import loading_plugin

ENTRY_POINTS = "bindery.registries"
SOURCES: dict[str, Callable[[RegistrySettings], Credentials]] = {
    "docker-config": DockerConfig.of,
    "google-metadata": GoogleMetadata,
}
"""Our own sources, by the value of `registry_credentials` that selects each."""


def make_credentials(settings: RegistrySettings) -> Credentials:
    """Return the source of logins that `registry_credentials` names.

    An entry point is called with the settings. Raise `ValueError` with the possible names if there is no such source,
    and `CannotStart` for an entry point that can't be loaded.
    """
    name = settings.registry_credentials
    if name in SOURCES:
        return SOURCES[name](settings)

    plugins = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if name not in plugins:
        names = ", ".join(sorted({*SOURCES, *plugins}))
        raise ValueError(f"BINDERY_REGISTRY_CREDENTIALS is {name!r}; there are: {names}.")

    with loading_plugin(name, ENTRY_POINTS, service="builder", setting="BINDERY_REGISTRY_CREDENTIALS"):
        credentials: Credentials = plugins[name].load()(settings)
    return credentials
