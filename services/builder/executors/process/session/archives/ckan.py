"""Datasets of any CKAN: every resource that has an address, by the last part of that. Nothing is unpacked.

Sources: https://docs.ckan.org/en/latest/api/#ckan.logic.action.get.package_show, and `activity_data_show` of
https://docs.ckan.org/en/latest/maintaining/activity-stream.html for a dataset after one of its activities.
"""

from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from services.builder.executors.process.session.archives.api import ArchiveApi
from services.builder.executors.process.session.archives.listing import (
    Listing,
    RemoteFile,
    Say,
    entries_of,
    has_changed,
    not_understood,
    object_in,
    size_of,
    text_of,
    unnamed_checksum,
)
from services.builder.executors.process.session.spec import BuildSpec
from services.common.service.times import epoch_seconds


async def list_dataset(spec: BuildSpec, api: ArchiveApi, say: Say) -> Listing:
    """Return the resources of the dataset whose page's address the spec has, and which the ref says the version of."""
    page = urlsplit(spec.repo_url)
    host = page.hostname or ""
    before, _, dataset = page.path.rpartition("/dataset/")
    name = f"dataset {dataset}"
    activity = parse_qs(page.query).get("activity_id", [""])[0]
    path = f"package_show?id={quote(dataset, safe='')}"
    if activity:
        path = f"activity_data_show?id={quote(activity, safe='')}&object_type=package"

    answer = await api.get(f"{page.scheme}://{page.netloc}{before}/api/3/action/{path}", name)
    package = object_in(answer, "result")
    if spec.ref != f"{dataset}.v{_changed_at(package, host)}":
        raise has_changed(f"The {name} on {host}")
    entries = entries_of(package.get("resources"), host)
    return Listing(name=name, files=tuple(_file(entry, host) for entry in entries if entry.get("url")))


def _changed_at(package: dict[str, Any], host: str) -> int:
    try:
        return epoch_seconds(package.get("metadata_modified"))
    except ValueError:
        raise not_understood(host) from None


def _file(entry: dict[str, Any], host: str) -> RemoteFile:
    """Return a resource. What is said of one that lies elsewhere is a text of its authors, and proves nothing."""
    url = text_of(entry, "url", host)
    is_here = entry.get("url_type") == "upload"
    return RemoteFile(
        path=url.rpartition("/")[2] or text_of(entry, "id", host),
        url=url,
        size_bytes=size_of(entry.get("size")) if is_here else None,
        checksum=unnamed_checksum(entry.get("hash")) if is_here else None,
    )
