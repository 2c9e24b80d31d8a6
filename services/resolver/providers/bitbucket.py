"""Repositories on Bitbucket Cloud. Spec: `<workspace>/<repo>/<ref>`; the ref may hold slashes."""

import copy
import re
from collections.abc import Sequence
from typing import Any, Self
from urllib.parse import quote, unquote, urlsplit

from services.common.git.remote import Listing, is_full_sha
from services.common.git.words import printable
from services.common.models import GitCredential, ResolvedRepo, Site, Spec, Visibility
from services.common.models.errors import BinderyError
from services.common.net.http import only_dict
from services.common.net.reply import Reply
from services.resolver.forges.credentials import Credential, basic, of_login
from services.resolver.forges.forge import Forge, ForgeHost, json_of
from services.resolver.git_refs import existing_refs, list_git_refs, names_of
from services.resolver.providers.base import Provider, checked_ref
from services.resolver.repository_names import links_to, path_on_forge
from services.resolver.settings import ResolverSettings
from services.resolver.sites import BITBUCKET_NOT_OWNERS, BITBUCKET_PAGES

_NAME = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9_.-]{1,100}")
_COMMIT = re.compile(r"[0-9A-Fa-f]{7,40}")
_PUBLIC_URL = "https://bitbucket.org"


class Bitbucket(Provider):
    """Repositories on bitbucket.org, whose API answers 60 requests an hour to who has no token.

    So a name is asked of git first, which has no such limit, and shows only what is public. The API is asked for
    commits, in full or abbreviated, and for what is private. Sources:
    https://developer.atlassian.com/cloud/bitbucket/rest/api-group-commits/, …/api-group-refs/ and
    …/api-group-repositories/; https://support.atlassian.com/bitbucket-cloud/docs/api-request-limits/
    """

    prefix = "bb"
    name = "Bitbucket"

    def __init__(self, settings: ResolverSettings) -> None:
        super().__init__(settings)
        self._url = settings.bitbucket_url
        self._api = Forge(
            ForgeHost(name=self.name, label="bitbucket", url=settings.bitbucket_api_url),
            settings,
            credentials=_credentials(settings),
        )

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
        return {
            "displayName": self.name,
            "id": self.prefix,
            "spec": {"validateRegex": r"[^/]+/[^/]+/.+"},
            "detect": {"regex": rf"^(https?://{urlsplit(self._url).netloc}/)?(?<repo>.*[^/])/?"},
            "repo": {
                "label": "Bitbucket repository name or URL",
                "placeholder": f"example: workspace/repository or {self._url}/workspace/repository",
                "urlEncode": False,
            },
            "ref": {"enabled": True, "default": "HEAD"},
        }

    @property
    def sites(self) -> tuple[Site, ...]:
        """The pages of bitbucket.org."""
        site = Site(
            name=self.name,
            provider=self.prefix,
            url=self._url,
            also_at=("https://altssh.bitbucket.org",) if self._url == _PUBLIC_URL else (),
            clone_url=f"{self._url}/{{repository}}",
            pages=BITBUCKET_PAGES,
            not_owners=BITBUCKET_NOT_OWNERS,
        )
        return (site,)

    async def resolve(self, spec: str) -> ResolvedRepo:
        """Return the commit that the ref names now."""
        path, ref = self._parts(spec)
        listing = None if is_full_sha(ref) else await self._public_refs(path, ref)
        sha = _named(listing, ref) if listing else None
        now_called = path
        visibility = Visibility.PUBLIC
        if sha and listing:
            now_called = path_on_forge(self._url, listing.url) or path
        elif listing and not _COMMIT.fullmatch(ref):
            raise self._missing(path, ref)
        else:
            sha, now_called, visibility = await self._by_api(path, ref)

        url = f"{self._url}/{path}"
        return ResolvedRepo(
            provider=self.prefix,
            spec=spec,
            repo_url=url,
            ref=sha,
            resolved_spec=f"{path}/{sha}",
            ref_url=f"{url}/src/{sha}",
            slug=f"{self.prefix}-{urlsplit(self._url).netloc}-{path.replace('/', '-')}",
            display_name=path,
            visibility=visibility,
            immutable_spec=ref.lower() == sha,
            ignores_case=True,
            reached_url=f"{self._url}/{now_called}" if now_called.lower() != path.lower() else None,
        )

    async def _public_refs(self, path: str, ref: str) -> Listing | None:
        """Return the refs of that name, asked of git without a login; None if the API may know more."""
        try:
            return await list_git_refs(f"{self._url}/{path}", ref, f"{ref}^{{}}", settings=self.settings)
        except BinderyError as error:
            if error.has_code("ref_not_found") and self._api.has_credentials:
                return None
            if error.has_code("ref_not_found"):
                raise self._missing(path) from error
            raise

    async def _by_api(self, path: str, ref: str) -> tuple[str, str, Visibility]:
        """Return the commit that a ref names, the repository's present name, and who may read it."""
        repository: dict[str, Any] = {"is_private": False}
        if self._api.has_credentials:
            repository = await self._object(f"/repositories/{path}?fields=full_name,is_private,mainbranch.name", path)
        if _COMMIT.fullmatch(ref):
            fields = "fields=hash,repository.full_name"
            commit = await self._object(f"/repositories/{path}/commit/{ref}?{fields}", path, ref)
            repository = {**only_dict(commit.get("repository")), **repository}
        else:
            branch = str(only_dict(repository.get("mainbranch")).get("name", ref)) if ref == "HEAD" else ref
            commit = await self._target(path, branch)
        sha = str(commit.get("hash", ""))
        if not is_full_sha(sha):
            raise self._missing(path, ref)
        visibility = Visibility.PUBLIC if repository.get("is_private") is False else Visibility.PRIVATE
        return sha, str(repository.get("full_name") or path), visibility

    async def _target(self, path: str, ref: str) -> dict[str, Any]:
        """Return the commit of the branch, or else of the tag, of that name."""
        for kind in ("branches", "tags"):
            reply = await self._api.get(f"/repositories/{path}/refs/{kind}/{quote(ref, safe='')}?fields=target.hash")
            if reply.status not in {200, 404}:
                raise self._failure(reply, path, ref)
            if reply.status == 200:
                return only_dict(json_of(reply).get("target"))
        return {}

    async def _object(self, api_path: str, path: str, ref: str = "") -> dict[str, Any]:
        reply = await self._api.get(api_path)
        if reply.status != 200:
            raise self._failure(reply, path, ref)
        return json_of(reply)

    def also_known_as(self, spec: str) -> tuple[Spec, ...]:
        """Return the plain form of the link, and the links by `git`."""
        path, ref = self._parts(spec)
        plain = Spec(provider=self.prefix, spec=f"{path}/{ref}")
        return (plain, *links_to(f"{self._url}/{path}", ref, self.settings.github_url))

    def repository_of(self, url: str) -> str | None:
        """See `Provider`."""
        path = path_on_forge(self._url, url) or ""
        workspace, _, name = path.partition("/")
        return path if _NAME.fullmatch(workspace) and _NAME.fullmatch(name) else None

    async def existing_refs(self, repository: str, refs: Sequence[str]) -> tuple[str, ...]:
        """Ask by git."""
        path, _ = self._parts(f"{repository}/HEAD")
        return await existing_refs(f"{self._url}/{path}", refs, self.settings)

    async def has_in_history(self, repository: str, sha: str) -> bool | None:
        """Ask for the commits before it that the main branch lacks: none, if it is in that branch's history.

        Source: https://developer.atlassian.com/cloud/bitbucket/rest/api-group-commits/, "List commits"
        """
        path = f"/repositories/{repository}"
        main = only_dict((await self._object(f"{path}?fields=mainbranch.name", repository)).get("mainbranch"))
        query = f"include={sha}&exclude={quote(str(main.get('name', 'HEAD')), safe='')}&pagelen=1&fields=values.hash"
        missing = await self._object(f"{path}/commits?{query}", repository, sha)
        return missing.get("values") == []

    async def read_file(self, repository: str, sha: str, path: str) -> bytes | None:
        """See `Provider`.

        Source: https://developer.atlassian.com/cloud/bitbucket/rest/api-group-source/
        """
        reply = await self._api.get(f"/repositories/{repository}/src/{sha}/{quote(path)}")
        return reply.body if reply.status == 200 else None

    def on_behalf_of(self, login: GitCredential) -> Self:
        """See `Provider`."""
        theirs = copy.copy(self)
        theirs._api = self._api.on_behalf_of(of_login(login, "Bearer"))
        return theirs

    async def aclose(self) -> None:
        """Close the API client's connections."""
        await self._api.aclose()

    @staticmethod
    def _parts(spec: str) -> tuple[str, str]:
        """Return workspace and repository as a path, and the ref. Raise `BinderyError("bad_spec")`."""
        parts = spec.split("/", 2)
        if len(parts) < 3:
            hint = f' Did you mean "{spec[:200]}/HEAD"?' if len(parts) == 2 and parts[1] else ""
            raise BinderyError("bad_spec", f'Spec is not of the form "workspace/repo/ref": "{spec[:200]}".{hint}')
        workspace, name = parts[0], parts[1].removesuffix(".git")
        for part in (workspace, name):
            if not _NAME.fullmatch(part):
                raise BinderyError(
                    "bad_spec", f"{part[:100]!r} can't be the name of a workspace or repository on Bitbucket."
                )
        return f"{workspace}/{name}", checked_ref(unquote(parts[2]), spec, is_option_allowed=True)

    def _failure(self, reply: Reply, path: str, ref: str) -> BinderyError:
        """Return the error for a reply other than 200."""
        if reply.status not in {401, 403, 404}:
            return BinderyError("provider_unavailable", f"Bitbucket answered {reply.status}.")
        message = str(only_dict(json_of(reply).get("error")).get("message", ""))
        return self._missing(path, ref if "commit" in message.lower() else "")

    @staticmethod
    def _missing(path: str, ref: str = "") -> BinderyError:
        what = f"no branch, tag or commit {printable(ref)} in {path}" if ref else f"no public repository {path}"
        return BinderyError("ref_not_found", f"There is {what} on Bitbucket.")


def _named(listing: Listing, ref: str) -> str | None:
    """Return the commit of the first ref of that name; of an annotated tag, what it points at."""
    found = (listing.refs.get(f"{name}^{{}}") or listing.refs.get(name) for name in names_of(ref))
    return next(filter(None, found), None)


def _credentials(settings: ResolverSettings) -> list[Credential]:
    """Return the operator's: a user's API token goes with the user's address, a repository's or workspace's alone."""
    token = settings.bitbucket_token.get_secret_value()
    if not token:
        return []
    if settings.bitbucket_user:
        return [basic(settings.bitbucket_user, token)]
    return [Credential({"Authorization": f"Bearer {token}"})]
