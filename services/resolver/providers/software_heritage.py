"""What Software Heritage has archived. Spec: `<SWHID>` of a revision or directory, or of what leads to one."""

import re
from typing import Any, ClassVar
from urllib.parse import quote, unquote

from services.common.git.forge_settings import token_list
from services.common.git.words import printable
from services.common.models import ResolvedRepo, Site, Spec
from services.common.models.errors import BinderyError
from services.common.net.http import only_dict
from services.common.service.redaction import quotable
from services.resolver.forges.credentials import Credential
from services.resolver.forges.forge import Forge, ForgeHost, json_of
from services.resolver.providers.archive import not_understood, unavailable
from services.resolver.providers.base import Provider
from services.resolver.settings import ResolverSettings
from services.resolver.sites import SOFTWARE_HERITAGE

_SWHID = re.compile(r"swh:1:(?P<kind>[a-z]{3}):(?P<hash>[0-9a-f]{40})(?:;.*)?", re.DOTALL)
_HASH = re.compile(r"[0-9a-f]{40}")
_KINDS = {"revision": "rev", "directory": "dir", "release": "rel", "snapshot": "snp"}
_BUILT = frozenset({"rev", "dir"})
_BRANCHES = ("HEAD", "refs/heads/main", "refs/heads/master")
_STEPS_MAX = 5
"""A release may be of another release, and a branch lead to another branch."""

Target = tuple[str, str]
"""The kind of an object, as SWHIDs name it, and its hash."""


class SoftwareHeritage(Provider):
    """Objects in the archive, which never change. Its API: https://archive.softwareheritage.org/api/1/.

    SWHIDs: https://www.swhid.org/specification/v1.2/.
    """

    prefix = "swh"
    name = "Software Heritage"
    example: ClassVar[str] = "swh:1:rev:309cf2674ee7a0749978cf8265ab91a60aea0f7d"

    def __init__(self, settings: ResolverSettings) -> None:
        super().__init__(settings)
        tokens = token_list(settings.software_heritage_token)
        self._api = Forge(
            ForgeHost(name=self.name, label="software_heritage", url=settings.software_heritage_api_url),
            settings,
            credentials=[Credential({"Authorization": f"Bearer {token}"}) for token in tokens],
        )

    @property
    def credentials_id(self) -> str:
        """See `Provider`."""
        return self._api.fingerprint

    @property
    def display_config(self) -> dict[str, Any]:
        """See `Provider`."""
        return {
            "displayName": self.name,
            "id": self.prefix,
            "spec": {"validateRegex": "[^/]+"},
            "repo": {"label": "SWHID", "placeholder": f"example: {self.example}", "urlEncode": True},
            "ref": {"enabled": False},
        }

    @property
    def sites(self) -> tuple[Site, ...]:
        """See `Provider`."""
        return (SOFTWARE_HERITAGE.updated(url=self.settings.software_heritage_url),)

    async def resolve(self, spec: str) -> ResolvedRepo:
        """Return the revision or directory itself, that of a release, or that of a snapshot's default branch."""
        kind, digest = _object(spec)
        if kind in _BUILT:
            await self._get(f"/resolve/swh:1:{kind}:{digest}/", f"swh:1:{kind}:{digest}")
        for _ in range(_STEPS_MAX):
            if kind == "rel":
                kind, digest = await self._of_release(digest)
            elif kind == "snp":
                kind, digest = await self._of_snapshot(digest)
        if kind not in _BUILT:
            raise BinderyError("ref_not_found", f"{_core(spec)} leads to no revision of source code.")

        swhid = f"swh:1:{kind}:{digest}"
        host = self.settings.software_heritage_url.partition("://")[2]
        return ResolvedRepo(
            provider=self.prefix,
            spec=spec,
            repo_url=swhid,
            ref=digest,
            resolved_spec=swhid,
            ref_url=f"{self.settings.software_heritage_url}/{swhid}",
            slug=f"swh-{host}-{kind}-{digest}",
            display_name=swhid,
            immutable_spec=True,
            content_provider="Swhid",
        )

    async def _of_release(self, digest: str) -> Target:
        release = await self._get(f"/release/{digest}/", f"swh:1:rel:{digest}")
        return self._target(release)

    async def _of_snapshot(self, digest: str) -> Target:
        """Return what the default branch of a snapshot leads to, following its aliases."""
        branches = await self._branches(digest)
        name = next((each for each in _BRANCHES if each in branches), "")
        if not name and len(branches) == 1:
            name = next(iter(branches))
        for _ in range(_STEPS_MAX):
            branch = only_dict(branches.get(name) or (name and (await self._branches(digest, name)).get(name)))
            if branch.get("target_type") != "alias":
                break
            name = str(branch.get("target"))
        if not branch or branch.get("target_type") == "alias":
            raise BinderyError(
                "ref_not_found",
                f"The snapshot swh:1:snp:{digest} has no default branch. Launch one of its revisions (swh:1:rev:…).",
            )
        return self._target(branch)

    async def _branches(self, digest: str, begin: str = "") -> dict[str, Any]:
        """Return the first thousand branches of a snapshot, or only the one called `begin`, if it exists."""
        query = f"?branches_from={quote(begin, safe='')}&branches_count=1" if begin else ""
        snapshot = await self._get(f"/snapshot/{digest}/{query}", f"swh:1:snp:{digest}")
        return only_dict(snapshot.get("branches"))

    def _target(self, source: dict[str, Any]) -> Target:
        """Return what a release or a branch is of. Raise `BinderyError` for a file."""
        named, digest = source.get("target_type"), source.get("target")
        if not isinstance(named, str) or not isinstance(digest, str) or not _HASH.fullmatch(digest):
            raise not_understood(self.name)
        if named not in _KINDS:
            raise BinderyError(
                "ref_not_found", f"It is of a {printable(named)} on Software Heritage, not of a revision."
            )
        return _KINDS[named], digest

    async def _get(self, path: str, swhid: str) -> dict[str, Any]:
        reply = await self._api.get(path)
        if reply.status == 404:
            raise BinderyError(
                "ref_not_found",
                f"There is no {swhid} on Software Heritage. Its repository can be archived at "
                f"{self.settings.software_heritage_url}/save/.",
            )
        if reply.status != 200:
            raise unavailable(reply.status, swhid, self.name)
        if not (answer := json_of(reply)):
            raise not_understood(self.name)
        return answer

    def also_known_as(self, spec: str) -> tuple[Spec, ...]:
        """Return the link by the identifier alone, without what SWHIDs may say of its origin."""
        return (Spec(provider=self.prefix, spec=_core(spec)),)

    def allowed_as(self, spec: str) -> tuple[Spec, ...]:
        """Return the link as it is, and by the identifier alone."""
        return (*super().allowed_as(spec), *self.also_known_as(spec))

    async def aclose(self) -> None:
        """Close every connection."""
        await self._api.aclose()


def _core(spec: str) -> str:
    kind, digest = _object(spec)
    return f"swh:1:{kind}:{digest}"


def _object(spec: str) -> Target:
    """Return the kind and the hash of a percent-encoded SWHID. Raise `BinderyError("bad_spec")` for any other text."""
    text = unquote(spec).strip()
    match = _SWHID.fullmatch(text)
    if match is None or match["kind"] not in _KINDS.values():
        raise BinderyError(
            "bad_spec",
            f"{quotable(text[:200])!r} is not the SWHID of a revision, a directory, a release or a snapshot: one looks "
            f"like {SoftwareHeritage.example}.",
        )
    return match["kind"], match["hash"]
