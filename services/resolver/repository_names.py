"""The names by which bans, allowances and configuration may call one repository."""

from urllib.parse import quote

from services.common.git.repository_url import canonical_url, plain_url
from services.common.models import Spec


def names_of(url: str, ref: str, github_url: str) -> tuple[Spec, ...]:
    """Links that lead to what is at `url`: by `git`, with and without `.git`, by http and https; on GitHub by `gh`."""
    canonical = canonical_url(url)
    by_http = f"http://{canonical.removeprefix('https://')}"
    spelled = dict.fromkeys(
        [url, plain_url(url), *(f"{one}{end}" for one in (canonical, by_http) for end in ("", ".git"))]
    )
    names = [Spec(provider="git", spec=f"{quote(one, safe='')}/{ref}") for one in spelled]
    if (path := path_on(github_url, url)) is not None:
        names.append(Spec(provider="gh", spec=f"{path}/{ref}"))
    return tuple(names)


def path_on(forge_url: str, url: str) -> str | None:
    """The path of a repository on a forge, as `user/repo`; None where it is elsewhere."""
    on, path = canonical_url(url), canonical_url(forge_url).rstrip("/") + "/"
    return on.removeprefix(path) if on.startswith(path) else None
