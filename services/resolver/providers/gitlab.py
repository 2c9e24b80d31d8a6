"""Projects on a GitLab. Spec: `<percent-encoded path>/<ref>`; the path may have nested groups, the ref slashes."""

import copy
import re
from collections.abc import Sequence
from typing import Any, Self
from urllib.parse import quote, unquote, urlsplit

from services.common.git.forge_settings import token_list
from services.common.git.host_settings import HostSettings
from services.common.git.remote import is_full_sha
from services.common.git.words import printable
from services.common.models import GitCredential, ResolvedRepo, Site, Spec, Visibility
from services.common.models.errors import BinderyError
from services.common.net.reply import Reply
from services.resolver.forges.credentials import Credential
from services.resolver.forges.forge import Forge, ForgeHost, file_of, json_of, list_of
from services.resolver.git_refs import existing_refs
from services.resolver.providers.base import Resolved, RevalidatingProvider, checked_ref
from services.resolver.repository_names import links_to, path_on_forge
from services.resolver.settings import ResolverSettings
from services.resolver.sites import GITLAB_MARK, GITLAB_NOT_OWNERS, GITLAB_PAGES

_PART = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9_.-]{1,255}")
_PUBLIC_URL = "https://gitlab.com"
_EXAMPLE = "mosaik/examples/mosaik-tutorials-on-binder"


class GitLab(RevalidatingProvider):
    """Projects on gitlab.com or another GitLab, by its REST API: one request for a commit by its name, with its ETag.

    A token may be shown more than the public is, so that with one the project's visibility is asked for, too. Sources:
    https://docs.gitlab.com/api/commits/#get-a-single-commit, https://docs.gitlab.com/api/projects/#get-a-single-project
    """

    def __init__(self, settings: ResolverSettings, prefix: str, host: HostSettings) -> None:
        super().__init__(settings)
        self.prefix = prefix
        self.name = "GitLab"
        self._url = host.url
        self._host = urlsplit(host.url).netloc
        self._place = host.url.partition("://")[2]
        self._shown = "GitLab" if host.url == _PUBLIC_URL else f"GitLab ({self._host})"
        self._api = Forge(
            ForgeHost(name=self._shown, label=prefix, url=f"{host.url}/api/v4"),
            settings,
            credentials=[Credential({"Authorization": f"Bearer {token}"}) for token in token_list(host.token)],
        )

    @classmethod
    def instances(cls, settings: ResolverSettings) -> Sequence["GitLab"]:
        """Return one for each host of the settings."""
        return tuple(cls(settings, prefix, host) for prefix, host in settings.gitlabs.items())

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
        example = _EXAMPLE if self._url == _PUBLIC_URL else "group/project"
        return {
            "displayName": self._shown,
            "id": self.prefix,
            "spec": {"validateRegex": r"[^/]+/.+"},
            "detect": {"regex": rf"^(https?://{self._place}/)?(?<repo>.*[^/])/?"},
            "repo": {
                "label": f"{self._shown} repository name or URL",
                "placeholder": f"example: {self._url}/{example} or {example}",
                "urlEncode": True,
            },
            "ref": {"enabled": True, "default": "HEAD"},
        }

    @property
    def sites(self) -> tuple[Site, ...]:
        """The pages of this GitLab."""
        site = Site(
            name=self._shown,
            provider=self.prefix,
            url=self._url,
            also_at=("https://altssh.gitlab.com",) if self._url == _PUBLIC_URL else (),
            clone_url=f"{self._url}/{{repository}}",
            repository=r"[^/]+(?:/[^/]+)+?",
            page_mark=GITLAB_MARK,
            pages=GITLAB_PAGES,
            not_owners=GITLAB_NOT_OWNERS,
        )
        return (site,)

    async def ask(self, spec: str, validator: str = "") -> Resolved | None:
        """Return the commit that the ref names now."""
        quoted_path, path, ref = self._parts(spec)
        project = f"/projects/{quote(path, safe='')}"
        visibility = await self._visibility(project, path)
        is_public = visibility is Visibility.PUBLIC
        # What has not changed may have become private: only what is known of a public project is asked about.
        commit_path = f"{project}/repository/commits/{quote(ref, safe='')}?stats=false"
        reply = await self._api.get(commit_path, etag=validator if is_public else "")
        if reply.status == 304:
            return None
        if reply.status != 200:
            raise self._failure(reply, path, ref)

        commit = json_of(reply)
        sha = str(commit.get("id", ""))
        if not is_full_sha(sha):
            message = f"{printable(ref)} is not the name of a branch, tag or commit in {path}."
            raise BinderyError("ref_not_found", message)
        url = f"{self._url}/{path}"
        page = re.fullmatch(rf"{re.escape(self._url)}/(.+?)/(?:-/)?commit/{sha}", str(commit.get("web_url", "")))
        now_called = page[1] if page else path
        repo = ResolvedRepo(
            provider=self.prefix,
            spec=spec,
            repo_url=f"{url}.git",
            ref=sha,
            resolved_spec=f"{quoted_path}/{sha}",
            ref_url=f"{url}/tree/{sha}",
            slug=self._slug(path),
            display_name=path,
            visibility=visibility,
            immutable_spec=ref.lower() == sha,
            ignores_case=True,
            reached_url=f"{self._url}/{now_called}" if now_called.lower() != path.lower() else None,
        )
        return Resolved(repo, reply.headers.get("etag", "") if is_public else "")

    async def _visibility(self, project: str, path: str) -> Visibility:
        """Return who may read a project: everybody, if we were shown it without a token."""
        if not self._api.has_credentials:
            return Visibility.PUBLIC
        reply = await self._api.get(project)
        if reply.status != 200:
            raise self._failure(reply, path, "")
        return Visibility.PUBLIC if json_of(reply).get("visibility") == "public" else Visibility.PRIVATE

    def _slug(self, path: str) -> str:
        """Return BinderHub's name of a project on gitlab.com; for another host, one with that host in it."""
        parts = path.replace("-", "_-").replace("/", "-")
        return parts if self._url == _PUBLIC_URL else f"{self.prefix}-{self._host}-{parts}"

    def also_known_as(self, spec: str) -> tuple[Spec, ...]:
        """Return the plain form of the link, and the links by `git`."""
        _, path, ref = self._parts(spec)
        return (self._plain(path, ref), *links_to(f"{self._url}/{path}", ref, self.settings.github_url))

    def allowed_as(self, spec: str) -> tuple[Spec, ...]:
        """Return the link itself, and its plain form."""
        _, path, ref = self._parts(spec)
        return (*super().allowed_as(spec), self._plain(path, ref))

    def _plain(self, path: str, ref: str) -> Spec:
        return Spec(provider=self.prefix, spec=f"{quote(path, safe='')}/{ref}")

    def repository_of(self, url: str) -> str | None:
        """See `Provider`."""
        path = path_on_forge(self._url, url) or ""
        is_project = "/" in path and all(_PART.fullmatch(part) for part in path.split("/"))
        return quote(path, safe="") if is_project else None

    async def existing_refs(self, repository: str, refs: Sequence[str]) -> tuple[str, ...]:
        """Ask by git: the API would need a request for each ref."""
        _, path, _ = self._parts(f"{repository}/HEAD")
        return await existing_refs(f"{self._url}/{path}.git", refs, self.settings)

    async def has_in_history(self, repository: str, sha: str) -> bool | None:
        """Ask for the branches and tags with the commit.

        Source: https://docs.gitlab.com/api/commits/#get-references-a-commit-is-pushed-to
        """
        commit = f"/projects/{repository}/repository/commits/{sha}"
        return bool(list_of(await self._api.get(f"{commit}/refs?type=all&per_page=1")))

    async def read_file(self, repository: str, sha: str, path: str) -> bytes | None:
        """See `Provider`.

        Source: https://docs.gitlab.com/api/repository_files/#get-file-from-repository
        """
        file = f"/projects/{repository}/repository/files/{quote(path, safe='')}"
        return file_of(await self._api.get(f"{file}?ref={sha}"))

    def on_behalf_of(self, login: GitCredential) -> Self:
        """See `Provider`."""
        theirs = copy.copy(self)
        token = login.password.get_secret_value()  # its API knows no user names beside tokens
        theirs._api = self._api.on_behalf_of(Credential({"Authorization": f"Bearer {token}"}))
        return theirs

    async def aclose(self) -> None:
        """Close the API client's connections."""
        await self._api.aclose()

    def _parts(self, spec: str) -> tuple[str, str, str]:
        """Return the path as it is quoted, the path, and the ref. Raise `BinderyError("bad_spec")`."""
        quoted_path, slash, quoted_ref = spec.partition("/")
        path = unquote(quoted_path).strip("/").removesuffix(".git")
        if not slash or "/" not in path:
            raise BinderyError(
                "bad_spec",
                f'Spec is not of the form "<percent-encoded path>/<ref>", provided: "{spec[:200]}". Encode the slashes '
                "of the project's path, too: group%2Fproject/HEAD.",
            )
        for part in path.split("/"):
            if not _PART.fullmatch(part):
                raise BinderyError("bad_spec", f"{part[:100]!r} can't be the name of a group or project on GitLab.")
        return quoted_path, path, checked_ref(unquote(quoted_ref), spec, is_option_allowed=True)

    def _failure(self, reply: Reply, path: str, ref: str) -> BinderyError:
        """Return the error for a reply other than 200."""
        message = str(json_of(reply).get("message", ""))
        if reply.status == 403 and message:  # a token's lack of rights is an `error`
            return BinderyError("ref_not_found", f"The files of {path} on {self._shown} are for its members.")
        if reply.status not in {401, 404}:
            return BinderyError("provider_unavailable", f"{self._shown} answered {reply.status}.")
        or_ref = f", or no {printable(ref)} in it" if ref and "project" not in message.lower() else ""
        return BinderyError("ref_not_found", f"There is no public project {path} on {self._shown}{or_ref}.")
