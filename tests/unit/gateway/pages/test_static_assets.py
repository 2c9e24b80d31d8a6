"""Badges, icons and static files: prebuilt bytes ahead of everything else."""

import re
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from xml.etree import ElementTree

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from services.gateway.pages import static_assets
from services.gateway.pages.static_assets import StaticAssets, assets_by_path, static_url


async def _elsewhere(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 418, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(StaticAssets(_elsewhere))
    async with httpx.AsyncClient(transport=transport, base_url="http://bindery") as client:
        yield client


@pytest.mark.parametrize("path", ["/badge.svg", "/badge_logo.svg", "/assets/images/badge.svg"])
async def test_badges_are_where_binderhub_has_them(client: httpx.AsyncClient, path: str) -> None:
    reply = await client.get(path)
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("image/svg+xml")
    assert reply.headers["access-control-allow-origin"] == "*"
    assert "max-age" in reply.headers["cache-control"]
    badge = ElementTree.fromstring(reply.content)  # noqa: S314 - our own bytes
    assert badge.get("height") == "20"
    title = badge.find("{http://www.w3.org/2000/svg}title")
    assert title is not None
    assert title.text == "launch | bindery"


async def test_a_badge_that_the_browser_has_is_not_sent_again(client: httpx.AsyncClient) -> None:
    etag = (await client.get("/badge.svg")).headers["etag"]
    for condition in (etag, f'"other", W/{etag}', "*"):
        reply = await client.get("/badge.svg", headers={"if-none-match": condition})
        assert (reply.status_code, reply.content, reply.headers["etag"]) == (304, b"", etag)
    assert (await client.get("/badge.svg", headers={"if-none-match": '"other"'})).status_code == 200


async def test_head_says_the_length_and_sends_nothing(client: httpx.AsyncClient) -> None:
    reply = await client.head("/badge_logo.svg")
    assert reply.content == b""
    assert int(reply.headers["content-length"]) == len((await client.get("/badge_logo.svg")).content)


async def test_other_paths_and_methods_go_on(client: httpx.AsyncClient) -> None:
    for method, path in (("POST", "/badge.svg"), ("GET", "/badge.svg/x"), ("GET", "/static/none.css"), ("GET", "/")):
        assert (await client.request(method, path)).status_code == 418


async def test_static_files_are_kept_for_ever_under_their_version_only(client: httpx.AsyncClient) -> None:
    url = static_url("bindery.css")
    assert "immutable" in (await client.get(url)).headers["cache-control"]
    of_another_release = re.sub(r"/static/\w+/", "/static/0123456789ab/", url)
    assert (await client.get(of_another_release)).headers["cache-control"] == "no-cache"


def test_pages_cant_name_a_file_that_does_not_exist() -> None:
    with pytest.raises(KeyError):
        static_url("none.js")


def test_scripts_import_only_files_beside_them() -> None:
    replies = assets_by_path()
    scripts = {path: body.decode() for path, (_, body, _) in replies.items() if path.endswith(".js")}
    assert scripts
    for path, text in scripts.items():
        folder = path.rpartition("/")[0]
        for imported in re.findall(r'from "([^"]+)"', text):
            assert f"{folder}/{imported.removeprefix('./')}" in replies
        assert "innerHTML" not in text


def test_the_favicon_is_an_icon_file() -> None:
    content_type, body, _ = assets_by_path()["/favicon.ico"]
    assert content_type == "image/vnd.microsoft.icon"
    assert body[:4] == b"\x00\x00\x01\x00"


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """One static file, in a copy of their folder."""
    folder = shutil.copytree(static_assets.STATIC, tmp_path / "static")
    monkeypatch.setattr(static_assets, "STATIC", folder)
    _forget()
    yield folder / "launch.js"
    _forget()


def _forget() -> None:
    static_assets._static_files.cache_clear()
    static_assets.static_version.cache_clear()


@pytest.mark.parametrize("reload", [False, True])
async def test_a_changed_file_is_served_without_a_restart_in_development_alone(script: Path, reload: bool) -> None:
    before = script.read_bytes()
    transport = httpx.ASGITransport(StaticAssets(_elsewhere, reload=reload))
    async with httpx.AsyncClient(transport=transport, base_url="http://bindery") as client:
        address = static_url(script.name)
        assert (await client.get(address)).content == before
        script.write_bytes(b"// changed")
        await client.get("/")  # a page
        assert (static_url(script.name) != address) is reload
        assert (await client.get(static_url(script.name))).content == (b"// changed" if reload else before)
