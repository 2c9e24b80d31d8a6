"""Datasets in any Dataverse: every file in its folder and in the form that it was deposited in. Nothing is unpacked.

Sources: https://guides.dataverse.org/en/latest/api/native-api.html#get-version-of-a-dataset, and
https://guides.dataverse.org/en/latest/api/dataaccess.html#basic-file-access.
"""

from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from services.builder.executors.process.session.archives.api import ArchiveApi
from services.builder.executors.process.session.archives.listing import (
    Listing,
    RemoteFile,
    Say,
    checksum_of,
    entries_of,
    not_understood,
    object_in,
    size_of,
    text_of,
)
from services.builder.executors.process.session.spec import BuildSpec
from services.common.models.errors import BinderyError


async def list_dataset(spec: BuildSpec, api: ArchiveApi, say: Say) -> Listing:
    """Return the files of the dataset and version that the address of its page names."""
    page = urlsplit(spec.repo_url)
    query = parse_qs(page.query)
    host = page.hostname or ""
    if not (query.get("persistentId") and query.get("version")):
        raise not_understood(host)
    persistent_id = query["persistentId"][0]
    version = query["version"][0]
    root = f"{page.scheme}://{page.netloc}"

    name = f"version {version} of dataset {persistent_id}"
    path = f"/api/datasets/:persistentId/versions/{quote(version, safe='')}"
    answer = await api.get(f"{root}{path}?persistentId={quote(persistent_id, safe='/:')}", name)
    entries = entries_of(object_in(answer, "data").get("files"), host)
    return Listing(name=name, files=tuple(_file(entry, root, host) for entry in entries))


def _file(entry: dict[str, Any], root: str, host: str) -> RemoteFile:
    """Return a file of a dataset; of a table that Dataverse has converted, the one that was deposited."""
    stored = object_in(entry, "dataFile")
    label = text_of(entry, "label", host)
    number = stored.get("id")
    if not isinstance(number, int):
        raise not_understood(host)
    if entry.get("restricted"):
        raise BinderyError(
            "ref_not_found", f"The file {label} of the dataset is not public on {host}. Ask its authors."
        )

    folder = entry.get("directoryLabel") or ""
    original_name = stored.get("originalFileName")
    is_converted = bool(original_name or stored.get("tabularData"))
    sum_of_stored = object_in(stored, "checksum")
    checksum = checksum_of(str(sum_of_stored.get("type")), sum_of_stored.get("value"))
    return RemoteFile(
        path=f"{folder}/{original_name or label}" if folder else str(original_name or label),
        url=f"{root}/api/access/datafile/{number}?format=original",
        size_bytes=size_of(stored.get("originalFileSize" if is_converted else "filesize")),
        checksum=None if is_converted else checksum,  # the API does not say of which of the two forms it is
    )
