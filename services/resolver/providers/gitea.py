"""Repositories on a Gitea or Forgejo, as Codeberg. Spec: `<host>/<owner>/<repo>/<ref>`; the ref may hold slashes."""

import copy
import hashlib
import re
from collections.abc import Sequence
from typing import Any, Self
from urllib.parse import quote, unquote

from services.common.git.forge_settings import token_list
from services.common.git.host_settings import HostSettings
from services.common.git.remote import is_full_sha
from services.common.git.words import printable
from services.common.models import GitCredential, ResolvedRepo, Site, Spec, Visibility
from services.common.models.errors import BinderyError
from services.common.net.reply import Reply
from services.resolver.forges.credentials import Credential, of_login
from services.resolver.forges.forge import Forge, ForgeHost, file_of, json_of
from services.resolver.git_refs import existing_refs
from services.resolver.providers.base import Provider, checked_ref
from services.resolver.repository_names import links_to, path_on_forge
from services.resolver.settings import ResolverSettings
from services.resolver.sites import GITEA_NOT_OWNERS, GITEA_PAGES

_NAME = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9_.-]{1,100}")
_WITHOUT = "?stat=false&verification=false&files=false"
"""What a commit is not asked for: all but itself."""


class Gitea(Provider):
    """Repositories on the hosts that the settings name, by their REST API: one request for a commit by its name.

    The API sends no ETags. A token may be shown more than the public is, so that with one it is also asked whether the
    repository is private. Source: https://docs.gitea.com/api/ (repoGetSingleCommit, repoGet); Forgejo has the same API.
    """

    prefix = "gitea"
    name = "Gitea"

    def __init__(self, settings: ResolverSettings) -> None:
        super().__init__(settings)
        self._hosts = {name: _Host(name, host, settings) for name, host in settings.giteas.items()}

    @classmethod
    def instances(cls, settings: ResolverSettings) -> Sequence["Gitea"]:
        """Return one, unless the settings name no host."""
        return (cls(settings),) if settings.giteas else ()

    @property
    def credentials_id(self) -> str:
        """See `Provider`."""
        fingerprints = " ".join(host.api.fingerprint for host in self._hosts.values())
        return hashlib.sha256(fingerprints.encode()).hexdigest()[:12]

    @property
    def warnings(self) -> Sequence[str]:
        """See `Provider`."""
        return [warning for host in self._hosts.values() if (warning := host.api.warning)]

    @property
    def display_config(self) -> dict[str, Any]:
        """See `Provider`. `parts` is ours: how many parts of a link name the repository."""
        example = f"{next(iter(self._hosts))}/owner/repository"
        return {
            "displayName": "Gitea or Forgejo",
            "id": self.prefix,
            "spec": {"validateRegex": r"[^/]+/[^/]+/[^/]+/.+"},
            "detect": {"regex": r"^(https?://)?(?<repo>[^/]+/.*[^/])/?"},
            "repo": {
                "label": "Repository on a Gitea or Forgejo, with its host, or URL",
                "placeholder": f"example: {example} or https://{example}",
                "urlEncode": False,
                "parts": 3,
            },
            "ref": {"enabled": True, "default": "HEAD"},
        }

    @property
    def sites(self) -> tuple[Site, ...]:
        """The pages of each host."""
        return tuple(
            Site(
                name=host.shown,
                provider=self.prefix,
                url=host.url,
                clone_url=f"{host.url}/{{repository}}",
                link=f"{name}/{{repository}}",
                pages=GITEA_PAGES,
                not_owners=GITEA_NOT_OWNERS,
            )
            for name, host in self._hosts.items()
        )

    async def resolve(self, spec: str) -> ResolvedRepo:
        """Return the commit that the ref names now."""
        host, path, ref = self._parts(spec)
        reply = await host.api.get(f"/repos/{path}/git/commits/{quote(ref, safe='')}{_WITHOUT}")
        if reply.status != 200:
            raise host.failure(reply, path, ref)
        commit = json_of(reply)
        sha = str(commit.get("sha", ""))
        if not is_full_sha(sha):
            message = f"{printable(ref)} is not the name of a branch, tag or commit in {path}."
            raise BinderyError("ref_not_found", message)

        url = f"{host.url}/{path}"
        page = re.fullmatch(rf"{re.escape(host.url)}/([^/]+/[^/]+)/commit/{sha}", str(commit.get("html_url", "")))
        now_called = page[1] if page else path
        return ResolvedRepo(
            provider=self.prefix,
            spec=spec,
            repo_url=url,
            ref=sha,
            resolved_spec=f"{host.name}/{path}/{sha}",
            ref_url=f"{url}/src/commit/{sha}",
            slug=f"{self.prefix}-{host.name}-{path.replace('/', '-')}",
            display_name=f"{host.name}/{path}",
            visibility=await host.visibility(path),
            immutable_spec=ref.lower() == sha,
            ignores_case=True,
            reached_url=f"{host.url}/{now_called}" if now_called.lower() != path.lower() else None,
        )

    def also_known_as(self, spec: str) -> tuple[Spec, ...]:
        """Return the plain form of the link, and the links by `git`."""
        host, path, ref = self._parts(spec)
        plain = Spec(provider=self.prefix, spec=f"{host.name}/{path}/{ref}")
        return (plain, *links_to(f"{host.url}/{path}", ref, self.settings.github_url))

    def repository_of(self, url: str) -> str | None:
        """See `Provider`."""
        for host in self._hosts.values():
            owner, _, name = (path_on_forge(host.url, url) or "").partition("/")
            if _NAME.fullmatch(owner) and _NAME.fullmatch(name):
                return f"{host.name}/{owner}/{name}"
        return None

    async def existing_refs(self, repository: str, refs: Sequence[str]) -> tuple[str, ...]:
        """Ask by git: the API would need a request for each ref."""
        host, path, _ = self._parts(f"{repository}/HEAD")
        return await existing_refs(f"{host.url}/{path}", refs, self.settings)

    async def has_in_history(self, repository: str, sha: str) -> bool | None:
        """Compare with the default branch. Source: repoCompareDiff in Gitea's API, since 1.22."""
        host, path, _ = self._parts(f"{repository}/HEAD")
        branch = quote(str(json_of(await host.api.get(f"/repos/{path}")).get("default_branch", "HEAD")), safe="")
        comparison = await host.api.get(f"/repos/{path}/compare/{branch}...{sha}")
        return json_of(comparison).get("total_commits") == 0

    async def read_file(self, repository: str, sha: str, path: str) -> bytes | None:
        """See `Provider`. Source: repoGetContents in Gitea's API."""
        host, place, _ = self._parts(f"{repository}/HEAD")
        return file_of(await host.api.get(f"/repos/{place}/contents/{quote(path)}?ref={sha}"))

    def on_behalf_of(self, login: GitCredential) -> Self:
        """See `Provider`."""
        theirs = copy.copy(self)
        theirs._hosts = {name: host.on_behalf_of(login) for name, host in self._hosts.items()}
        return theirs

    async def aclose(self) -> None:
        """Close the API clients' connections."""
        for host in self._hosts.values():
            await host.api.aclose()

    def _parts(self, spec: str) -> tuple["_Host", str, str]:
        """Return the host, owner and repository as a path, and the ref. Raise `BinderyError("bad_spec")`."""
        parts = spec.split("/", 3)
        if len(parts) < 4:
            hint = f' Did you mean "{spec[:200]}/HEAD"?' if len(parts) == 3 and parts[2] else ""
            raise BinderyError("bad_spec", f'Spec is not of the form "host/owner/repo/ref": "{spec[:200]}".{hint}')
        host_name, owner, name = unquote(parts[0]).lower(), parts[1], parts[2].removesuffix(".git")
        if (host := self._hosts.get(host_name)) is None:
            raise BinderyError(
                "bad_spec",
                f"{printable(host_name[:100])!r} is no Gitea or Forgejo that is known here: {', '.join(self._hosts)}. "
                "Repositories on others are launched by their git URL.",
            )
        for part in (owner, name):
            if not _NAME.fullmatch(part):
                raise BinderyError("bad_spec", f"{part[:100]!r} can't be the name of a user or repository there.")
        return host, f"{owner}/{name}", checked_ref(unquote(parts[3]), spec, is_option_allowed=True)


class _Host:
    """One host, as links name it, and its API."""

    def __init__(self, name: str, host: HostSettings, settings: ResolverSettings) -> None:
        self.name = name
        self.url = host.url
        self.shown = "Codeberg" if name == "codeberg.org" else name
        self.api = Forge(
            ForgeHost(name=self.shown, label=name, url=f"{host.url}/api/v1"),
            settings,
            credentials=[Credential({"Authorization": f"token {token}"}) for token in token_list(host.token)],
        )

    def on_behalf_of(self, login: GitCredential) -> Self:
        """Return this host as it is for the holder of a login."""
        theirs = copy.copy(self)
        theirs.api = self.api.on_behalf_of(of_login(login, "token"))
        return theirs

    async def visibility(self, path: str) -> Visibility:
        """Return who may read a repository: everybody, if we were shown it without a token."""
        if not self.api.has_credentials:
            return Visibility.PUBLIC
        reply = await self.api.get(f"/repos/{path}")
        if reply.status != 200:
            raise self.failure(reply, path, "")
        repository = json_of(reply)
        is_public = repository.get("private") is False and repository.get("internal") is not True
        return Visibility.PUBLIC if is_public else Visibility.PRIVATE

    def failure(self, reply: Reply, path: str, ref: str) -> BinderyError:
        """Return the error for a reply other than 200."""
        if reply.status == 422:
            return BinderyError("ref_not_found", f"There is no branch, tag or commit {printable(ref)} in {path}.")
        if reply.status not in {401, 403, 404}:
            return BinderyError("provider_unavailable", f"{self.shown} answered {reply.status}.")
        if "commit doesn't exist" in str(json_of(reply).get("message", "")):
            what = (
                f"no branch, tag or commit {printable(ref)} in" if ref != "HEAD" else "nothing at the default branch of"
            )
            return BinderyError("ref_not_found", f"There is {what} {path} on {self.shown}.")
        return BinderyError("ref_not_found", f"There is no public repository {path} on {self.shown}.")
