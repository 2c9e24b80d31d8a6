"""Gists on GitHub. Spec: `<user>/<id>`, or `<user>/<id>/<ref>` with a version of the gist, in full or abbreviated."""

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from services.common.git.remote import is_full_sha
from services.common.git.words import printable, size_text
from services.common.models import ResolvedRepo, Site, Spec, Visibility
from services.common.models.errors import BinderyError
from services.common.net.http import only_dict
from services.common.net.reply import Reply, ReplyTooLargeError
from services.resolver.forges.forge import json_of, list_of, objects_of
from services.resolver.git_refs import existing_refs
from services.resolver.providers.base import Resolved, RevalidatingProvider, checked_ref
from services.resolver.providers.github import github_api
from services.resolver.repository_names import links_to, path_on_forge
from services.resolver.settings import ResolverSettings
from services.resolver.sites import GIST_PAGES

_USER = re.compile(r"[A-Za-z0-9_-]{1,100}")
_ID = re.compile(r"[0-9A-Fa-f]{1,64}")
_VERSION = re.compile(r"[0-9A-Fa-f]{4,40}")
_LATEST = frozenset({"", "HEAD", "master", "main"})
_PUBLIC_URL = "https://gist.github.com"
_GITHUB_URL = "https://github.com"
_ALSO_AT = (
    "https://gist.githubusercontent.com",
    "https://nbviewer.org/gist",
    "https://nbviewer.jupyter.org/gist",
    "https://colab.research.google.com/gist",
)
_NOBODY = "anonymous"
"""Who owns the gists of people that were not logged in, which GitHub took until 2018."""
_REPLY_BYTES = 16 * 2**20
"""A reply has the gist's files, up to 1 MB of each."""
_PAGE_SIZE = 100


class Gist(RevalidatingProvider):
    """Gists, by GitHub's REST API: one request, revalidated by its ETag, and one more for each 100 older versions.

    A secret gist is one that anybody may read who knows its id; it is launched only with `allow_secret_gist`, and
    cached for nobody. Source: https://docs.github.com/en/rest/gists/gists#get-a-gist and #list-gist-commits
    """

    prefix = "gist"
    name = "Gist"

    def __init__(self, settings: ResolverSettings) -> None:
        super().__init__(settings)
        self._api = github_api(settings)

    @classmethod
    def instances(cls, settings: ResolverSettings) -> Sequence["Gist"]:
        """Return one, unless the API is that of a GitHub Enterprise server whose gists the settings don't name."""
        is_elsewhere = settings.gist_url == _PUBLIC_URL and settings.github_url != _GITHUB_URL
        return () if is_elsewhere else (cls(settings),)

    @property
    def credentials_id(self) -> str:
        """See `Provider`."""
        return self._api.fingerprint

    @property
    def warnings(self) -> Sequence[str]:
        """See `Provider`."""
        return [self._api.warning] if self._api.warning else []

    @property
    def display_config(self) -> dict[str, Any]:
        """See `Provider`."""
        host = urlsplit(self.settings.gist_url).netloc
        return {
            "displayName": "GitHub Gist",
            "id": self.prefix,
            "spec": {"validateRegex": r"[^/]+/[^/]+(/[^/]+)?"},
            "detect": {"regex": rf"^(https?://{host}/)?(?<repo>.*[^/])/?"},
            "repo": {"label": "Gist ID (username/gistId) or URL", "placeholder": "", "urlEncode": False},
            "ref": {"enabled": True, "default": "HEAD"},
        }

    @property
    def sites(self) -> tuple[Site, ...]:
        """The pages of gists; those whose address has no owner are launched by git."""
        url = self.settings.gist_url
        by_owner = Site(
            name="GitHub Gist",
            provider=self.prefix,
            url=url,
            also_at=_ALSO_AT if url == _PUBLIC_URL else (),
            clone_url=f"{url}/{{repository}}.git",
            repository=r"[^/]+/[0-9a-f]{5,32}(?:\.git)?",
            pages=GIST_PAGES,
        )
        return by_owner, by_owner.updated(provider="git", repository=r"[0-9a-f]{5,32}(?:\.git)?")

    async def ask(self, spec: str, validator: str = "") -> Resolved | None:
        """Return the version that the ref names, which is the latest for HEAD, `main` and `master`."""
        user, gist_id, ref = self._parts(spec)
        reply = await self._gist(gist_id, validator)
        if reply.status == 304:
            return None
        if reply.status != 200:
            raise _failure(reply, gist_id)

        gist = json_of(reply)
        is_secret = gist.get("public") is not True
        if is_secret and not self.settings.allow_secret_gist:
            raise BinderyError("ref_not_found", f"The gist {gist_id} is secret: only public gists are launched here.")
        owner = str(only_dict(gist.get("owner")).get("login", "")) or _NOBODY
        if owner.lower() != user.lower():
            meant = f"{owner}/{gist_id}" + (f"/{ref}" if ref else "")
            raise BinderyError("ref_not_found", f"The gist {gist_id} is not {user}'s. Did you mean {printable(meant)}?")

        sha = await self._version(gist_id, ref, _versions(gist.get("history")))
        url = f"{self.settings.gist_url}/{user}/{gist_id}"
        repo = ResolvedRepo(
            provider=self.prefix,
            spec=spec,
            repo_url=f"{url}.git",
            ref=sha,
            resolved_spec=f"{user}/{gist_id}/{sha}",
            ref_url=f"{url}/{sha}",
            slug=gist_id,
            display_name=f"{user}/{gist_id}",
            visibility=Visibility.PRIVATE if is_secret else Visibility.PUBLIC,
            immutable_spec=ref.lower() == sha,
            ignores_case=True,
        )
        return Resolved(repo, reply.headers.get("etag", ""))

    async def _gist(self, gist_id: str, etag: str) -> Reply:
        try:
            return await self._api.get(f"/gists/{gist_id}", etag=etag, max_bytes=_REPLY_BYTES)
        except ReplyTooLargeError as error:
            message = f"The gist {gist_id} is too large: its files are more than {size_text(_REPLY_BYTES)}."
            raise BinderyError("ref_not_found", message) from error

    async def _version(self, gist_id: str, ref: str, latest: Sequence[str]) -> str:
        """Return the full name of a version. `latest` are those that came with the gist, the newest one first."""
        if not latest:
            raise BinderyError("ref_not_found", f"The gist {gist_id} is empty: it has no version.")
        if ref in _LATEST:
            return latest[0]
        if not _VERSION.fullmatch(ref):
            raise BinderyError(
                "ref_not_found",
                f"The gist {gist_id} has no {printable(ref)}. A gist has no branches: name HEAD or a version.",
            )
        if sha := _first(latest, ref):
            return sha

        pages = -(-self.settings.gist_versions_max // _PAGE_SIZE)
        for page in range(1, pages + 1):
            reply = await self._api.get(f"/gists/{gist_id}/commits?per_page={_PAGE_SIZE}&page={page}")
            if reply.status != 200:
                raise _failure(reply, gist_id)
            versions = _versions(list_of(reply))
            if sha := _first(versions, ref):
                return sha
            if len(versions) < _PAGE_SIZE:
                raise BinderyError("ref_not_found", f"The gist {gist_id} has no version {ref}.")
        raise BinderyError(
            "ref_not_found", f"The gist {gist_id} has no version {ref} among its latest {pages * _PAGE_SIZE}."
        )

    def also_known_as(self, spec: str) -> tuple[Spec, ...]:
        """Return the plain form of the link, and the links by `git`, with and without the owner."""
        user, gist_id, ref = self._parts(spec)
        links = [Spec(provider=self.prefix, spec=f"{user}/{gist_id}/{ref or 'HEAD'}")]
        for path in (f"{user}/{gist_id}", gist_id):
            links += links_to(f"{self.settings.gist_url}/{path}", ref or "HEAD", self.settings.github_url)
        return tuple(links)

    def repository_of(self, url: str) -> str | None:
        """See `Provider`. An address without the owner names no link."""
        path = path_on_forge(self.settings.gist_url, url) or ""
        user, _, gist_id = path.partition("/")
        return path if _USER.fullmatch(user) and _ID.fullmatch(gist_id) else None

    async def existing_refs(self, repository: str, refs: Sequence[str]) -> tuple[str, ...]:
        """Ask by git."""
        user, gist_id, _ = self._parts(f"{repository}/HEAD")
        return await existing_refs(f"{self.settings.gist_url}/{user}/{gist_id}.git", refs, self.settings)

    async def aclose(self) -> None:
        """Close the API client's connections."""
        await self._api.aclose()

    @staticmethod
    def _parts(spec: str) -> tuple[str, str, str]:
        """Return user, id and ref, which may be empty. Raise `BinderyError("bad_spec")`."""
        user, _, rest = spec.partition("/")
        gist_id, _, ref = rest.partition("/")
        gist_id = gist_id.removesuffix(".git")
        if not gist_id:
            raise BinderyError("bad_spec", f'Spec is not of the form "user/gist_id/ref", provided: "{spec[:200]}".')
        if not _USER.fullmatch(user):
            raise BinderyError("bad_spec", f"{user[:100]!r} can't be the name of a user on GitHub.")
        if not _ID.fullmatch(gist_id):
            raise BinderyError("bad_spec", f"{gist_id[:100]!r} can't be the id of a gist.")
        return user, gist_id, checked_ref(unquote(ref), spec, is_option_allowed=True) if ref else ""


def _versions(history: object) -> list[str]:
    names = (str(each.get("version", "")) for each in objects_of(history))
    return [name for name in names if is_full_sha(name)]


def _first(versions: Sequence[str], ref: str) -> str | None:
    return next((version for version in versions if version.startswith(ref.lower())), None)


def _failure(reply: Reply, gist_id: str) -> BinderyError:
    """Return the error for a reply other than 200."""
    if reply.status == 451 or "block" in json_of(reply):
        return BinderyError("ref_not_found", f"GitHub has closed access to the gist {gist_id}.")
    if reply.status in {404, 422}:
        return BinderyError("ref_not_found", f"There is no gist {gist_id} on GitHub.")
    return BinderyError("provider_unavailable", f"GitHub answered {reply.status}.")
