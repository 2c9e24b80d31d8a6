"""Resources on HydroShare: the files of their contents. Nothing is unpacked.

Source: https://www.hydroshare.org/hsapi/, "resource/{id}/files". repo2docker takes the same files out of the resource's
bag, which HydroShare has to pack first, and gets the descriptions that HydroShare writes beside them (`*_meta.xml`).
"""

from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit

from services.builder.executors.process.session.archives.api import ArchiveApi
from services.builder.executors.process.session.archives.listing import (
    Listing,
    RemoteFile,
    Say,
    checksum_of,
    entries_of,
    has_changed,
    not_understood,
    size_of,
    text_of,
)
from services.builder.executors.process.session.spec import BuildSpec
from services.common.models.errors import BinderyError
from services.common.service.times import epoch_seconds

_ARCHIVE = "HydroShare"
_CONTENTS = "/data/contents/"


async def list_resource(spec: BuildSpec, api: ArchiveApi, say: Say) -> Listing:
    """Return the files of the resource that the ref names, as `<id>.v<Unix seconds of its last change>`."""
    resource, _, changed_at = spec.ref.partition(".v")
    name = f"resource {resource}"
    root = f"{spec.settings.hydroshare_api_url}/resource/{quote(resource, safe='')}"
    if await _changed_at(api, root, name) != changed_at:
        raise has_changed(f"The {name} on HydroShare")

    files: list[RemoteFile] = []
    page: str | None = f"{root}/files/"
    while page:
        answer = await api.get(page, name)
        found = [_file(entry, page) for entry in entries_of(answer.get("results"), _ARCHIVE)]
        files += found
        if len(files) > spec.settings.max_repository_files:
            break  # whoever fetches them refuses so many
        following = answer.get("next")
        page = urljoin(page, following) if isinstance(following, str) and found else None
    return Listing(name=name, files=tuple(files))


async def _changed_at(api: ArchiveApi, root: str, name: str) -> str:
    answer = await api.get(f"{root}/scimeta/elements", name)
    dates = entries_of(answer.get("dates"), _ARCHIVE)
    changed_at = next((date.get("start_date") for date in dates if date.get("type") == "modified"), None)
    try:
        return str(epoch_seconds(changed_at))
    except ValueError:
        raise not_understood(_ARCHIVE) from None


def _file(entry: dict[str, Any], page: str) -> RemoteFile:
    url = urljoin(page, text_of(entry, "url", _ARCHIVE))
    _, contents, path = urlsplit(url).path.partition(_CONTENTS)
    if not contents:
        raise BinderyError("fetch_failed", f"HydroShare lists a file that is not in a resource's contents: {url}.")
    return RemoteFile(
        path=unquote(path),
        url=url,
        size_bytes=size_of(entry.get("size")),
        checksum=checksum_of("md5", entry.get("checksum")),
    )
