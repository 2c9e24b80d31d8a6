"""Datasets in archives that a forge of the tests stands for, with their files: what builds fetch.

The replies have the recorded form. Each archive lies below a folder of its own, as the resolver's tests have it.
"""

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Mapping
from copy import deepcopy
from typing import Any
from urllib.parse import quote

from tests.support.archives import Recorded, recorded, reply
from tests.support.forge import Forge, Page

RESOURCE = "142c59757ed54de1816777828c9716e7"
CHANGED_AT = 1545934606
"""When the recorded resource of HydroShare was changed, in Unix seconds."""
PACKAGE_CHANGED_AT = 1712023831
"""When the recorded dataset of a CKAN was changed."""
DIRECTORY = "4453cfbdab1a996658cd1a815711664ee7742380"

Files = Mapping[str, bytes]
NONE: Mapping[str, Any] = {}


def api_urls(forge: Forge) -> dict[str, str]:
    """Return the settings that lead builds to the archives of a forge."""
    folders = {"zenodo": "zenodo", "figshare": "figshare", "hydroshare": "hydroshare", "software_heritage": "swh"}
    return {f"{name}_api_url": f"{forge.url}/{folder}" for name, folder in folders.items()}


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def zipped(files: Files) -> bytes:
    """Return a ZIP file."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, file in files.items():
            archive.writestr(name, file)
    return content.getvalue()


def tarred(files: Files, *, top: str, links: Mapping[str, str] = NONE, programs: Files = NONE) -> bytes:
    """Return a compressed tar file with one folder."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        folder = tarfile.TarInfo(top)
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, file in {**files, **programs}.items():
            entry = tarfile.TarInfo(f"{top}/{name}")
            entry.size = len(file)
            entry.mode = 0o4755 if name in programs else 0o644
            archive.addfile(entry, io.BytesIO(file))
        for name, target in links.items():
            entry = tarfile.TarInfo(f"{top}/{name}")
            entry.type = tarfile.SYMTYPE
            entry.linkname = target
            archive.addfile(entry)
    return content.getvalue()


def serve_zenodo(forge: Forge, number: str, files: Files) -> Recorded:
    """Serve a record; return its listing, which may be changed and served again."""
    record = recorded("zenodo.org_api_records_3242074")
    record.body |= {"id": int(number), "recid": number, "doi": f"10.5281/zenodo.{number}"}
    record.body["links"]["files"] = f"{forge.url}/zenodo/records/{number}/files"
    forge.pages[f"/zenodo/records/{number}"] = record.page

    listing = recorded("zenodo.org_api_records_3242074_files")
    [model] = listing.body["entries"]
    listing.body["entries"] = []
    for name, content in files.items():
        url = _serve(forge, f"zenodo/records/{number}/files/{name}/content", content)
        more = {"key": name, "size": len(content), "checksum": f"md5:{md5(content)}", "links": {"content": url}}
        listing.body["entries"].append(model | more)
    forge.pages[f"/zenodo/records/{number}/files"] = listing.page
    return listing


def serve_figshare(forge: Forge, number: str, version: str, files: Files, *, links: Files = NONE) -> Recorded:
    """Serve a version of an article, in which `links` are files that lie elsewhere."""
    article = recorded("api.figshare.com_v2_articles_9782777_versions_3")
    [model] = article.body["files"]
    article.body |= {"id": int(number), "version": int(version), "files": []}
    for name, content in {**files, **links}.items():
        url = _serve(forge, f"ndownloader/{version}/{name}", content)
        more = {"name": name, "size": len(content), "computed_md5": md5(content), "download_url": url}
        article.body["files"].append(model | more | {"is_link_only": name in links})
    forge.pages[f"/figshare/articles/{number}/versions/{version}"] = article.page
    return article


def serve_dataverse(forge: Forge, version: str, files: Files, *, originals: Mapping[str, str] = NONE) -> Recorded:
    """Serve a version of a dataset. `originals` are tables: by their path, the name that they were deposited by."""
    listing = recorded("dataverse.harvard.edu_api_datasets_versions")
    [table, model, *_] = listing.body["data"]["files"]
    listing.body["data"]["files"] = []
    for number, (path, content) in enumerate(files.items(), start=1):
        folder, _, name = path.rpartition("/")
        entry = deepcopy(table if path in originals else model)
        entry |= {"label": name, "directoryLabel": folder}
        if not folder:
            del entry["directoryLabel"]
        entry["dataFile"] |= {"id": number, "filename": name, "filesize": len(content)}
        entry["dataFile"]["checksum"] = {"type": "MD5", "value": md5(content)}
        if path in originals:  # size and checksum are those of the converted table
            more = {"originalFileName": originals[path], "originalFileSize": len(content), "filesize": 1}
            entry["dataFile"] |= more | {"checksum": {"type": "MD5", "value": md5(b"converted")}}
        listing.body["data"]["files"].append(entry)
        _serve(forge, f"api/access/datafile/{number}", content)
    forge.pages[f"/api/datasets/:persistentId/versions/{version}"] = listing.page
    latest = {"status": "OK", "data": {"latestVersion": listing.body["data"]}}
    forge.pages["/api/datasets/:persistentId"] = reply(latest)
    return listing


def serve_hydroshare(forge: Forge, files: Files, *, per_page: int = 100) -> None:
    """Serve the recorded resource with these files, on as many pages as it takes; and its bag."""
    name = f"www.hydroshare.org_hsapi_resource_{RESOURCE}_scimeta_elements"
    forge.pages[f"/hydroshare/resource/{RESOURCE}/scimeta/elements"] = recorded(name).page
    listing = recorded("www.hydroshare.org_hsapi_resource_files")
    [model] = listing.body["results"]
    entries = []
    for path, content in files.items():
        url = _serve(forge, f"resource/{RESOURCE}/data/contents/{path}", content)
        more = {"file_name": path.rpartition("/")[2], "size": len(content), "checksum": md5(content), "url": url}
        entries.append(model | more)

    own = f"/hydroshare/resource/{RESOURCE}/files/"
    pages = []
    for start in range(0, len(entries), per_page):
        following = f"{forge.url}{own}?page={start // per_page + 2}" if start + per_page < len(entries) else None
        more = {"count": len(entries), "next": following, "results": entries[start : start + per_page]}
        pages.append(reply(listing.body | more))
    forge.pages[own] = pages

    bag = zipped({f"{RESOURCE}/data/contents/{path}": content for path, content in files.items()})
    forge.pages[f"/s3/bags/{RESOURCE}.zip"] = Page(body=bag)
    moved = {"Location": f"{forge.url}/s3/bags/{RESOURCE}.zip"}
    forge.pages[f"/django_s3/download/bags/{RESOURCE}.zip"] = Page(302, moved)


def serve_ckan(forge: Forge, files: Files, **more: Any) -> Recorded:
    """Serve the dataset `turtles`, as it is now and after an activity; `more` goes into each resource."""
    dataset = recorded("data.depositar.io_api_3_action_activity_data_show")
    package = dataset.body["result"]
    [model, *_] = package["resources"]
    package |= {"name": "turtles", "resources": []}
    for number, (name, content) in enumerate(files.items()):
        url = _serve(forge, f"dataset/turtles/resource/{number}/download/{name}", content)
        package["resources"].append(
            model | {"id": f"resource-{number}", "url": url, "size": len(content), "hash": md5(content)} | more
        )
    forge.pages["/api/3/action/package_show"] = dataset.page
    forge.pages["/api/3/action/activity_data_show"] = dataset.page
    forge.pages["/api/3/action/status_show"] = reply({"success": True})
    return dataset


def serve_software_heritage(forge: Forge, tar: bytes) -> None:
    """Serve the recorded directory, and its revision, by the vault's two addresses."""
    revision = recorded("archive.softwareheritage.org_api_1_revision")
    forge.pages[f"/swh/revision/{revision.body['id']}/"] = revision.page
    flat = f"vault/flat/swh:1:dir:{DIRECTORY}"
    vault = recorded("archive.softwareheritage.org_api_1_vault_flat")
    vault.body["fetch_url"] = _serve(forge, f"swh/{flat}/raw/", tar)
    forge.pages[f"/swh/{flat}/"] = vault.page
    forge.pages[f"/swh/vault/directory/{DIRECTORY}/"] = vault.page


def tree_of(folder: Any) -> dict[str, bytes | str]:
    """Return what is below a folder: by path, each file's content and each link's target."""
    found: dict[str, bytes | str] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = str(path.readlink())
        elif path.is_file():
            found[name] = path.read_bytes()
    return found


def _serve(forge: Forge, path: str, content: bytes) -> str:
    """Serve a file; return its address."""
    quoted = quote(f"/{path}", safe="/:")
    forge.pages[quoted] = Page(headers={"Content-Type": "application/octet-stream"}, body=content)
    return f"{forge.url}{quoted}"
