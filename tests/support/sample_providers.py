"""Providers as the resolver lists them for the gateway: ours, and one of those that have no refs."""

from typing import Any

from services.gateway.launches.repository_types import RepositoryType
from services.resolver.providers.base import Provider
from services.resolver.providers.bitbucket import Bitbucket
from services.resolver.providers.gist import Gist
from services.resolver.providers.git import Git
from services.resolver.providers.gitea import Gitea
from services.resolver.providers.github import GitHub
from services.resolver.providers.gitlab import GitLab
from services.resolver.settings import ResolverSettings
from tests.support.settings import settings_for


def listed(provider: type[Provider]) -> list[dict[str, Any]]:
    """Return how the resolver lists the providers of one class."""
    return [
        {**one.display_config, "sites": [site.model_dump(mode="json") for site in one.sites]}
        for one in provider.instances(settings_for(ResolverSettings))
    ]


PROVIDERS: list[dict[str, Any]] = [
    {
        "displayName": "GitHub",
        "id": "gh",
        "spec": {"validateRegex": r"[^/]+/[^/]+/.+"},
        "detect": {"regex": "^(https?://github.com/)?(?<repo>.*[^/])/?"},
        "repo": {
            "label": "GitHub repository name or URL",
            "placeholder": "example: binder-examples/requirements or https://github.com/binder-examples/requirements",
            "urlEncode": False,
        },
        "ref": {"enabled": True, "default": "HEAD"},
        "sites": [site.model_dump(mode="json") for site in GitHub(settings_for(ResolverSettings)).sites],
    },
    *listed(Gist),
    {
        "displayName": "Git repository",
        "id": "git",
        "spec": {"validateRegex": r"[^/]+/.+"},
        "repo": {
            "label": "Arbitrary git repository URL",
            "placeholder": "example: http://git.example.com/repo",
            "urlEncode": True,
        },
        "ref": {"enabled": True, "default": "HEAD"},
        "sites": [site.model_dump(mode="json") for site in Git(settings_for(ResolverSettings)).sites],
    },
    *listed(GitLab),
    *listed(Gitea),
    *listed(Bitbucket),
    {
        "displayName": "Zenodo DOI",
        "id": "zenodo",
        "spec": {"validateRegex": r"10\.\d+\/(.)+"},
        "repo": {"label": "Zenodo DOI", "placeholder": "example: 10.5281/zenodo.3242074", "urlEncode": False},
        "ref": {"enabled": False},
    },
]

TYPES = [RepositoryType.of(config) for config in PROVIDERS]
BY_ID = {candidate.id: candidate for candidate in TYPES}
