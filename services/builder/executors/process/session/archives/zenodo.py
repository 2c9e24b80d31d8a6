"""Records on Zenodo. One ZIP file alone is unpacked.

Source: https://inveniordm.docs.cern.ch/reference/rest_api_drafts_records/#list-a-records-files.
"""

from urllib.parse import quote

from services.builder.executors.process.session.archives.api import ArchiveApi
from services.builder.executors.process.session.archives.listing import (
    Checksum,
    Listing,
    Packing,
    RemoteFile,
    Say,
    checksum_of,
    entries_of,
    object_in,
    size_of,
    text_of,
)
from services.builder.executors.process.session.spec import BuildSpec

_ARCHIVE = "Zenodo"


async def list_record(spec: BuildSpec, api: ArchiveApi, say: Say) -> Listing:
    """Return the files of the record whose number the ref is: a record is one version, and never changes."""
    name = f"record {spec.ref}"
    answer = await api.get(f"{spec.settings.zenodo_api_url}/records/{quote(spec.ref, safe='')}/files", name)
    entries = entries_of(answer.get("entries"), _ARCHIVE)
    files = tuple(
        RemoteFile(
            path=text_of(entry, "key", _ARCHIVE),
            url=text_of(object_in(entry, "links"), "content", _ARCHIVE),
            size_bytes=size_of(entry.get("size")),
            checksum=_checksum(entry.get("checksum")),
        )
        for entry in entries
    )
    return Listing(name=name, files=files, packing=Packing.ZIP if len(files) == 1 else Packing.NONE)


def _checksum(text: object) -> Checksum | None:
    algorithm, _, digest = text.partition(":") if isinstance(text, str) else ("", "", "")
    return checksum_of(algorithm, digest)
