"""Directories of Software Heritage, which its vault packs into a tar file when it is asked for one.

Source: https://archive.softwareheritage.org/api/1/vault/flat/doc/.
"""

import asyncio

from services.builder.executors.process.session.archives.api import ArchiveApi
from services.builder.executors.process.session.archives.listing import (
    Listing,
    Packing,
    RemoteFile,
    Say,
    not_understood,
    shown,
    text_of,
)
from services.builder.executors.process.session.spec import BuildSpec
from services.common.models.errors import BinderyError

POLL_SECONDS = 5.0
"""How often the vault is asked whether it is done."""
_ARCHIVE = "Software Heritage"


async def list_directory(spec: BuildSpec, api: ArchiveApi, say: Say) -> Listing:
    """Return the tar file of the directory or revision that the address names, once the vault has packed it."""
    root = spec.settings.software_heritage_api_url
    kind = spec.repo_url.split(":")[2:3]
    directory = spec.ref
    if kind == ["rev"]:
        revision = await api.get(f"{root}/revision/{spec.ref}/", spec.repo_url)
        directory = text_of(revision, "directory", _ARCHIVE)
    elif kind != ["dir"]:
        raise not_understood(_ARCHIVE)

    url = await _packed(f"{root}/vault/flat/swh:1:dir:{directory}/", spec.repo_url, api, say)
    tar = RemoteFile(path="directory.tar.gz", url=url)
    return Listing(name=spec.repo_url, files=(tar,), packing=Packing.TAR)


async def _packed(url: str, swhid: str, api: ArchiveApi, say: Say) -> str:
    """Return the address of a tar file, once it is there; the caller sets the deadline."""
    answer = await api.post(url, swhid)
    last_message = ""
    while (status := answer.get("status")) != "done":
        message = answer.get("progress_message")
        words = shown(message) if isinstance(message, str) and message else ""
        if status == "failed":
            reason = f": {words}" if words else "."
            raise BinderyError("fetch_failed", f"Software Heritage could not pack {swhid}{reason}")
        if words != last_message or not last_message:
            say(f"Software Heritage packs {swhid}" + (f": {words}" if words else ""))
            last_message = words or "-"
        await asyncio.sleep(POLL_SECONDS)
        answer = await api.get(url, swhid)
    return text_of(answer, "fetch_url", _ARCHIVE)
