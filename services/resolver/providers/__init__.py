"""The repository providers: our own, in the order in which pages show them, then those of entry points.

A new provider is one file: a subclass of `Provider`, named in `OURS` or, from another package, by an entry point of
the group `bindery.providers`.
"""

from importlib.metadata import entry_points

from services.resolver.providers.base import Provider
from services.resolver.providers.git import Git
from services.resolver.providers.github import GitHub
from services.resolver.settings import ResolverSettings

ENTRY_POINTS = "bindery.providers"
OURS: tuple[type[Provider], ...] = (GitHub, Git)


def load_providers(settings: ResolverSettings) -> dict[str, Provider]:
    """Return every provider by its prefix; one from an entry point replaces ours of the same prefix.

    Raise `TypeError` for an entry point that is not a provider.
    """
    classes = list(OURS)
    for entry in entry_points(group=ENTRY_POINTS):
        provider_class = entry.load()
        if not (isinstance(provider_class, type) and issubclass(provider_class, Provider)):
            raise TypeError(f"The entry point {entry.name} of {ENTRY_POINTS} is not a subclass of Provider.")
        classes.append(provider_class)
    return {provider.prefix: provider(settings) for provider in classes}
