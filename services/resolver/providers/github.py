"""Repositories on GitHub, or on a GitHub Enterprise server. Spec: `<user>/<repo>/<ref>`; the ref may hold slashes."""

import copy
import re
from collections.abc import Sequence
from typing import Any, Self
from urllib.parse import quote, unquote, urlsplit

from prometheus_client import Gauge

from services.common.git.forge_settings import token_list
from services.common.git.remote import is_full_sha
from services.common.git.words import printable
from services.common.models import GitCredential, ResolvedRepo, Site, Spec, Visibility
from services.common.models.errors import BinderyError
from services.common.net.reply import Reply
from services.resolver.forges.credentials import Credential, basic, of_login
from services.resolver.forges.forge import Forge, ForgeHost, file_of, json_of, list_of
from services.resolver.git_refs import existing_refs
from services.resolver.providers.base import Resolved, RevalidatingProvider, checked_ref
from services.resolver.repository_names import links_to, path_on_forge
from services.resolver.settings import ResolverSettings
from services.resolver.sites import GITHUB_NOT_OWNERS, GITHUB_PAGES, GITHUB_REPOSITORY, RAW_FILES

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_PAGE = re.compile(r"/([A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+)/commit/[0-9a-f]{40}$")
_OLD_DEFAULTS = ("master", "main")
_PUBLIC_URL = "https://github.com"
_ALSO_AT = (
    "https://ssh.github.com",
    "https://api.github.com/repos",
    "https://codeload.github.com",
    "https://github.com/codespaces/new",
    "https://codespaces.new",
    "https://github.dev",
    "https://github1s.com",
    "https://vscode.dev/github",
    "https://nbviewer.org/github",
    "https://nbviewer.jupyter.org/github",
    "https://colab.research.google.com/github",
)
_FILES_ALSO_AT = (
    "https://media.githubusercontent.com/media",
    "https://nbviewer.org/urls/raw.githubusercontent.com",
    "https://nbviewer.jupyter.org/urls/raw.githubusercontent.com",
)
"""Other sites that show the repositories of github.com, or their files."""


_SCOPES = "x-oauth-scopes"
"""The header with the scopes of a classic token. Source:
https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/scopes-for-oauth-apps"""
_SCOPE_OF_PRIVATE = "repo"

REMAINING = Gauge("binderhub_github_rate_limit_remaining", "Requests that GitHub's API still answers until the reset")


class GitHub(RevalidatingProvider):
    """Repositories on GitHub, by its REST API: one request for a commit by its name, revalidated by its ETag.

    The default branch may have been renamed since a link was made, so a missing `master` or `main` means HEAD. Source:
    https://docs.github.com/en/rest/commits/commits#get-a-commit
    """

    prefix = "gh"
    name = "GitHub"

    def __init__(self, settings: ResolverSettings) -> None:
        super().__init__(settings)
        self._api = github_api(settings)
        self._has_token = bool(token_list(settings.github_access_token))

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
        host = urlsplit(self.settings.github_url).netloc

        return {
            "displayName": "GitHub",
            "id": self.prefix,
            "spec": {"validateRegex": r"[^/]+/[^/]+/.+"},
            "detect": {"regex": rf"^(https?://{host}/)?(?<repo>.*[^/])/?"},
            "repo": {
                "label": "GitHub repository name or URL",
                "placeholder": "example: binder-examples/requirements or "
                f"{self.settings.github_url}/binder-examples/requirements",
                "urlEncode": False,
            },
            "ref": {"enabled": True, "default": "HEAD"},
        }

    @property
    def sites(self) -> tuple[Site, ...]:
        """GitHub itself, and other sites that show what is on github.com."""
        url = self.settings.github_url
        is_public = url == _PUBLIC_URL
        own = Site(
            name=self.name,
            provider=self.prefix,
            url=url,
            also_at=_ALSO_AT if is_public else (),
            clone_url=f"{url}/{{repository}}",
            repository=GITHUB_REPOSITORY,
            pages=GITHUB_PAGES,
            not_owners=GITHUB_NOT_OWNERS,
        )
        files = {"url": "https://raw.githubusercontent.com", "also_at": _FILES_ALSO_AT, "pages": RAW_FILES}
        return (own, own.updated(**files)) if is_public else (own,)

    async def ask(self, spec: str, validator: str = "") -> Resolved | None:
        """Return the commit that the ref names now, with a notice if HEAD stands in for an old default branch."""
        user, repo, ref = self._parts(spec)
        name = f"{user}/{repo}"
        reply = await self._commit(user, repo, ref, validator)
        if (remaining := self._api.remaining) is not None:
            REMAINING.set(remaining)
        notice = None
        if reply.status in {404, 422} and ref in _OLD_DEFAULTS and (of_head := await self._of_head(user, repo)):
            reply = of_head
            notice = f"{name} has no branch {ref}: its default branch (HEAD) is used instead. Please update the link."
        visibility = await self._visibility(name, reply)
        if reply.status == 304 and visibility is Visibility.PUBLIC:
            return None
        if reply.status == 304:  # only what is known of a public repository is told by its validator
            reply = await self._commit(user, repo, ref)
        if reply.status != 200:
            raise _failure(reply, name, ref)

        commit = json_of(reply)
        sha = str(commit.get("sha", ""))
        if not is_full_sha(sha):
            raise BinderyError(
                "ref_not_found", f"{printable(ref)} is not the name of a branch, tag or commit in {name}."
            )
        page = _PAGE.search(str(commit.get("html_url", "")))
        return Resolved(
            self._repository(
                spec, name, ref=ref, sha=sha, notice=notice, now_called=page[1] if page else name, visibility=visibility
            ),
            "" if notice or visibility is not Visibility.PUBLIC else reply.headers.get("etag", ""),
        )

    async def _visibility(self, name: str, reply: Reply) -> Visibility:
        """Return who may read a repository of which a commit was shown: everybody, if no token may see more.

        The reply has the scopes of a classic token; a token of another kind does not say what it may see.
        """
        scopes = reply.headers.get(_SCOPES)
        sees_more = scopes is None or _SCOPE_OF_PRIVATE in scopes.replace(",", " ").split()
        if reply.status not in {200, 304} or not self._has_token or not sees_more:
            return Visibility.PUBLIC
        repository = await self._api.get(f"/repos/{quote(name, safe='/')}")
        return Visibility.PUBLIC if json_of(repository).get("private") is False else Visibility.PRIVATE

    async def _commit(self, user: str, repo: str, ref: str, etag: str = "") -> Reply:
        path = f"/repos/{quote(user)}/{quote(repo)}/commits/{quote(ref, safe='/')}"
        return await self._api.get(path, etag=etag)

    async def _of_head(self, user: str, repo: str) -> Reply | None:
        """Return the reply for the default branch; None if there is none."""
        reply = await self._commit(user, repo, "HEAD")
        return reply if reply.status == 200 else None

    def _repository(
        self, spec: str, name: str, *, ref: str, sha: str, notice: str | None, now_called: str, visibility: Visibility
    ) -> ResolvedRepo:
        url = f"{self.settings.github_url}/{name}"
        was_renamed = now_called.lower() != name.lower()
        return ResolvedRepo(
            provider=self.prefix,
            spec=spec,
            repo_url=url,
            ref=sha,
            resolved_spec=f"{name}/{sha}",
            ref_url=f"{url}/tree/{sha}",
            slug=name.replace("/", "-"),
            display_name=name,
            notice=notice,
            visibility=visibility,
            immutable_spec=is_full_sha(ref) and ref.lower() == sha,
            ignores_case=True,
            reached_url=f"{self.settings.github_url}/{now_called}" if was_renamed else None,
        )

    def also_known_as(self, spec: str) -> tuple[Spec, ...]:
        """Return the link without `.git`, which GitHub accepts too, and the links by `git`."""
        user, repo, ref = self._parts(spec)
        return links_to(f"{self.settings.github_url}/{user}/{repo}", ref, self.settings.github_url)

    def repository_of(self, url: str) -> str | None:
        """Return `<user>/<repo>` for a URL on GitHub."""
        return path_on_forge(self.settings.github_url, url)

    async def existing_refs(self, repository: str, refs: Sequence[str]) -> tuple[str, ...]:
        """Ask by git: the API would need a request for each ref, and its limit is lower."""
        user, repo, _ = self._parts(f"{repository}/HEAD")
        return await existing_refs(f"{self.settings.github_url}/{user}/{repo}", refs, self.settings)

    async def has_in_history(self, repository: str, sha: str) -> bool | None:
        """Compare with the default branch, then ask whether a branch ends there.

        Source: https://docs.github.com/en/rest/commits/commits#compare-two-commits, and #list-branches-for-head-commit
        there.
        """
        path = f"/repos/{quote(repository, safe='/')}"
        branch = quote(str(json_of(await self._api.get(path)).get("default_branch", "HEAD")), safe="")
        # The second page of the commits comes without the changes of all files.
        comparison = await self._api.get(f"{path}/compare/{branch}...{sha}?per_page=1&page=2")
        if json_of(comparison).get("status") in {"behind", "identical"}:
            return True
        return bool(list_of(await self._api.get(f"{path}/commits/{sha}/branches-where-head")))

    async def read_file(self, repository: str, sha: str, path: str) -> bytes | None:
        """See `Provider`.

        Source: https://docs.github.com/en/rest/repos/contents#get-repository-content
        """
        return file_of(await self._api.get(f"/repos/{quote(repository, safe='/')}/contents/{quote(path)}?ref={sha}"))

    def on_behalf_of(self, login: GitCredential) -> Self:
        """See `Provider`."""
        theirs = copy.copy(self)
        theirs._api = self._api.on_behalf_of(of_login(login, "token"))
        theirs._has_token = True
        return theirs

    async def aclose(self) -> None:
        """Close the API client's connections."""
        await self._api.aclose()

    @staticmethod
    def _parts(spec: str) -> tuple[str, str, str]:
        """Return user, repository and ref. Raise `BinderyError("bad_spec")`."""
        parts = spec.split("/", 2)
        if len(parts) < 3:
            message = f'Spec is not of the form "user/repo/ref", provided: "{spec[:200]}".'
            if len(parts) == 2 and parts[1] not in {"HEAD", *_OLD_DEFAULTS}:
                message += f' Did you mean "{spec[:200]}/HEAD"?'
            raise BinderyError("bad_spec", message)

        user = parts[0]
        repo = parts[1].removesuffix(".git")
        ref = checked_ref(unquote(parts[2]), spec, is_option_allowed=True)
        for name in (user, repo):
            if not _NAME.fullmatch(name) or name in {".", ".."}:
                raise BinderyError("bad_spec", f"{name[:100]!r} can't be the name of a user or repository on GitHub.")
        return user, repo, ref


def github_api(settings: ResolverSettings) -> Forge:
    """Return a client of GitHub's API, with the tokens or the OAuth app of the operator."""
    if tokens := token_list(settings.github_access_token):
        credentials = [Credential({"Authorization": f"token {token}"}) for token in tokens]
    elif settings.github_client_id:
        credentials = [basic(settings.github_client_id, settings.github_client_secret.get_secret_value())]
    else:
        credentials = []
    return Forge(
        ForgeHost(name="GitHub", label="github", url=settings.github_api_url),
        settings,
        headers={"Accept": "application/vnd.github+json"},
        credentials=credentials,
    )


def _failure(reply: Reply, name: str, ref: str) -> BinderyError:
    """Return the error for a reply other than 200."""
    status = reply.status
    if status == 451 or "block" in json_of(reply):
        return BinderyError("ref_not_found", f"GitHub has closed access to {name}.")
    if status == 404:
        return BinderyError(
            "ref_not_found", f"There is no public repository {name} on GitHub, or no {printable(ref)} in it."
        )
    if status == 422:
        return BinderyError("ref_not_found", f"There is no branch, tag or commit {printable(ref)} in {name} on GitHub.")
    if status == 409:
        return BinderyError("ref_not_found", f"The repository {name} on GitHub is empty.")
    return BinderyError("provider_unavailable", f"GitHub answered {status}.")
