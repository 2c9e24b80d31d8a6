"""Articles on Figshare, without the files that are links to elsewhere. One file alone, if it is a .zip, is unpacked.

Source: https://docs.figshare.com/#public_article_version.
"""

from services.builder.executors.process.session.archives.api import ArchiveApi
from services.builder.executors.process.session.archives.listing import (
    Listing,
    Packing,
    RemoteFile,
    Say,
    checksum_of,
    entries_of,
    not_understood,
    size_of,
    text_of,
)
from services.builder.executors.process.session.spec import BuildSpec

_ARCHIVE = "Figshare"


async def list_article(spec: BuildSpec, api: ArchiveApi, say: Say) -> Listing:
    """Return the files of the article and version that the ref names, as `9782777.v3`."""
    number, _, version = spec.ref.partition(".v")
    if not (number.isdecimal() and version.isdecimal()):
        raise not_understood(_ARCHIVE)

    name = f"version {version} of article {number}"
    answer = await api.get(f"{spec.settings.figshare_api_url}/articles/{number}/versions/{version}", name)
    entries = [each for each in entries_of(answer.get("files"), _ARCHIVE) if not each.get("is_link_only")]
    files = tuple(
        RemoteFile(
            path=text_of(entry, "name", _ARCHIVE),
            url=text_of(entry, "download_url", _ARCHIVE),
            size_bytes=size_of(entry.get("size")),
            checksum=checksum_of("md5", entry.get("computed_md5") or entry.get("supplied_md5")),
        )
        for entry in entries
    )
    is_one_zip = len(files) == 1 and files[0].path.endswith(".zip")
    return Listing(name=name, files=files, packing=Packing.ZIP if is_one_zip else Packing.NONE)
