"""Datasets of any CKAN. Spec: `<percent-encoded URL of the dataset's page>`, which may name one of its activities."""

import re
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, unquote

import httpx

from services.common.models import ResolvedRepo, Spec
from services.common.models.errors import BinderyError
from services.common.net.checked_url import checked_url
from services.common.net.http import only_dict
from services.common.service.redaction import quotable
from services.resolver.forges.forge import json_of
from services.resolver.forges.strangers import StrangersHosts
from services.resolver.providers.archive import Archive, epoch_of, not_public, not_understood, unavailable
from services.resolver.settings import ResolverSettings

_PATH = re.compile(r"(?P<before>.*?)/dataset/(?P<name>[A-Za-z0-9_-]{2,100})(?P<rest>/.*)?")
_HISTORY = re.compile(r"/history/(?P<activity>[^/]+)")
_ACTIVITY = re.compile(r"[A-Za-z0-9_-]{1,100}")


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A dataset's page: the address before `/dataset/`, the dataset's name or id, and perhaps an activity of it."""

    root: str
    host: str
    name: str
    activity: str = ""

    @property
    def url(self) -> str:
        """The page's address, as short as it can be."""
        return f"{self.root}/dataset/{self.name}" + (f"?activity_id={self.activity}" if self.activity else "")


class CKAN(Archive):
    """Public datasets. They change; what one was after an activity, where the CKAN shows that, does not.

    Its API: https://docs.ckan.org/en/latest/api/#ckan.logic.action.get.package_show.
    """

    prefix = "ckan"
    name = "CKAN"

    def __init__(self, settings: ResolverSettings) -> None:
        super().__init__(settings)
        self._hosts = StrangersHosts(settings, label="ckan")

    @property
    def display_config(self) -> dict[str, Any]:
        """See `Provider`."""
        return {
            "displayName": "CKAN dataset",
            "id": self.prefix,
            "spec": {"validateRegex": "[^/]+"},
            "repo": {
                "label": "CKAN dataset URL",
                "placeholder": "example: https://demo.ckan.org/dataset/my-sample-dataset-001",
                "urlEncode": True,
            },
            "ref": {"enabled": False},
        }

    def has(self, page: httpx.URL) -> bool:
        """See `Archive`."""
        return _PATH.fullmatch(page.path) is not None

    async def at(self, spec: str, doi: str, page: httpx.URL) -> ResolvedRepo:
        """See `Archive`."""
        return await self._resolve(spec, _dataset_at(page))

    async def resolve(self, spec: str) -> ResolvedRepo:
        """Return the dataset as it was last changed, or as it was after the activity that the link names."""
        return await self._resolve(spec, _dataset_at(_url(spec)))

    async def _resolve(self, spec: str, dataset: Dataset) -> ResolvedRepo:
        found = await self._package(dataset)
        ref = f"{dataset.name}.v{epoch_of(found.get('metadata_modified'), dataset.host)}"
        return ResolvedRepo(
            provider=self.prefix,
            spec=spec,
            repo_url=dataset.url,
            ref=ref,
            resolved_spec=quote(dataset.url, safe=""),
            ref_url=dataset.url,
            slug=f"ckan-{dataset.root.partition('://')[2]}-{dataset.name}",
            display_name=f"{dataset.host}: {dataset.name}",
            immutable_spec=bool(dataset.activity),
            content_provider="CKAN",
        )

    async def _package(self, dataset: Dataset) -> dict[str, Any]:
        """Return what the API says of a dataset. Raise `BinderyError` unless everybody may read it."""
        path = f"/package_show?id={dataset.name}"
        if dataset.activity:
            path = f"/activity_data_show?id={dataset.activity}&object_type=package"
        reply = await self._hosts.get(f"{dataset.root}/api/3/action", path, name=dataset.host)
        answer = json_of(reply)
        if reply.status != 200:
            raise unavailable(reply.status, f"dataset {dataset.name}", dataset.host)
        found = only_dict(answer.get("result"))
        if answer.get("success") is False or not found:
            raise not_understood(dataset.host)

        if dataset.name not in {found.get("id"), found.get("name")}:
            raise BinderyError(
                "ref_not_found",
                f"{dataset.host} has this activity for another dataset than {dataset.name}. Copy its page's address.",
            )
        if found.get("state", "active") != "active":
            raise unavailable(410, f"dataset {dataset.name}", dataset.host)
        if found.get("private"):
            raise not_public(f"dataset {dataset.name}", dataset.host)
        return found

    def also_known_as(self, spec: str) -> tuple[Spec, ...]:
        """Return the links by the page's plain address, with and without the activity, by http and by https."""
        dataset = _dataset_at(_url(spec))
        urls = (dataset.url, replace(dataset, activity="").url)
        schemes = ("https", "http")
        spelled = (f"{scheme}://{url.partition('://')[2]}" for url in urls for scheme in schemes)
        return tuple(Spec(provider=self.prefix, spec=quote(url, safe="")) for url in dict.fromkeys(spelled))

    def allowed_as(self, spec: str) -> tuple[Spec, ...]:
        """Return the link as it is, and by the page's plain address."""
        return (Spec(provider=self.prefix, spec=quote(_dataset_at(_url(spec)).url, safe="")),)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._hosts.aclose()


def _url(spec: str) -> httpx.URL:
    return checked_url(unquote(spec))


def _dataset_at(url: httpx.URL) -> Dataset:
    """Return the dataset whose page is at an address. Raise `BinderyError("bad_spec")` for any other page."""
    match = _PATH.fullmatch(url.path)
    rest = (match["rest"] or "") if match else ""
    in_path = _HISTORY.match(rest)
    activity = in_path["activity"] if in_path else url.params.get("activity_id", "")
    if match is None or (activity and not _ACTIVITY.fullmatch(activity)):
        raise BinderyError(
            "bad_spec",
            f"{quotable(str(url))} is not the address of a CKAN dataset: such a one looks like "
            "https://demo.ckan.org/dataset/my-sample-dataset-001.",
        )
    root = f"{url.scheme}://{url.netloc.decode('ascii')}{quote(match['before'])}"
    return Dataset(root=root, host=url.host, name=match["name"], activity=activity)
