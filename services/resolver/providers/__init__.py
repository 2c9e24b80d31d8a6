"""The repository providers: our own, in the order in which pages show them, then those of entry points.

A new provider is one file: a subclass of `Provider`, named in `OURS` or, from another package, by an entry point of
the group `bindery.providers`.
"""

from collections import Counter
from importlib.metadata import EntryPoint, entry_points

from services.common.service.plugins import loading_plugin, plugin_refused
from services.common.service.start import CannotStart
from services.resolver.providers.base import Provider
from services.resolver.providers.bitbucket import Bitbucket
from services.resolver.providers.ckan import CKAN
from services.resolver.providers.dataverse import Dataverse
from services.resolver.providers.doi import Doi
from services.resolver.providers.figshare import Figshare
from services.resolver.providers.gist import Gist
from services.resolver.providers.git import Git
from services.resolver.providers.gitea import Gitea
from services.resolver.providers.github import GitHub
from services.resolver.providers.gitlab import GitLab
from services.resolver.providers.hydroshare import HydroShare
from services.resolver.providers.software_heritage import SoftwareHeritage
from services.resolver.providers.zenodo import Zenodo
from services.resolver.settings import ResolverSettings

ENTRY_POINTS = "bindery.providers"
OURS: tuple[type[Provider], ...] = (
    GitHub,
    Gist,
    Git,
    GitLab,
    Gitea,
    Bitbucket,
    Zenodo,
    Figshare,
    HydroShare,
    Dataverse,
    CKAN,
    SoftwareHeritage,
    Doi,
)


def load_providers(settings: ResolverSettings) -> dict[str, Provider]:
    """Return the providers that the settings ask for, by prefix; one of an entry point replaces ours of the same one.

    Raise `CannotStart` for an entry point that can't be loaded, or that is not a provider, and for a setting that names
    no provider, or gives two providers the same prefix.
    """
    loaded = [provider for kind in OURS for provider in kind.instances(settings)]
    if twice := [prefix for prefix, number in Counter(each.prefix for each in loaded).items() if number > 1]:
        raise CannotStart(f"The settings have two providers whose links begin with {', '.join(twice)}.")
    loaded += [_load_plugin(entry, settings) for entry in entry_points(group=ENTRY_POINTS)]
    providers = {provider.prefix: provider for provider in loaded}
    if unknown := [prefix for prefix in settings.provider_prefixes if prefix not in providers]:
        raise CannotStart(
            f"BINDERY_PROVIDERS names {', '.join(unknown)}, and there are these providers: {', '.join(providers)}."
        )
    return {prefix: providers[prefix] for prefix in settings.provider_prefixes or providers}


def _load_plugin(entry: EntryPoint, settings: ResolverSettings) -> Provider:
    with loading_plugin(entry.name, ENTRY_POINTS, service="resolver"):
        provider_class = entry.load()
        if isinstance(provider_class, type) and issubclass(provider_class, Provider):
            provider = provider_class(settings)
            if hasattr(provider, "prefix") and hasattr(provider, "name"):
                return provider
            fault = "is a provider without prefix and name"
        else:
            fault = "is no subclass of Provider"
        raise plugin_refused(entry.name, ENTRY_POINTS, fault, service="resolver")
