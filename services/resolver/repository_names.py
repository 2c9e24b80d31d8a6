"""The links by which bans, allowances and configuration may name one repository."""

from urllib.parse import quote

from services.common.git.repository_url import canonical_url, plain_url
from services.common.models import Spec


def links_to(url: str, ref: str, github_url: str) -> tuple[Spec, ...]:
    """Return the links that lead to the repository at `url`.

    By `git` there are several: with and without `.git`, by http and by https. A repository on GitHub is also
    `gh/<user>/<repo>/<ref>`.
    """
    canonical = canonical_url(url)
    by_http = f"http://{canonical.removeprefix('https://')}"
    spellings = [url, plain_url(url)]
    spellings += [f"{base}{end}" for base in (canonical, by_http) for end in ("", ".git")]
    links = [Spec(provider="git", spec=f"{quote(spelling, safe='')}/{ref}") for spelling in dict.fromkeys(spellings)]

    path = path_on_forge(github_url, url)
    if path is not None:
        links.append(Spec(provider="gh", spec=f"{path}/{ref}"))
    return tuple(links)


def path_on_forge(forge_url: str, url: str) -> str | None:
    """Return a repository's path on a forge, as `user/repo`; None if it is elsewhere."""
    repository = canonical_url(url)
    forge = canonical_url(forge_url).rstrip("/") + "/"
    return repository.removeprefix(forge) if repository.startswith(forge) else None
