"""Static assets, served from prebuilt bytes ahead of all middleware: badges, icons, the style sheet and scripts."""

import hashlib
from functools import cache
from pathlib import Path
from typing import NamedTuple

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from services.gateway.pages.badges import badge_svg

STATIC = Path(__file__).parent / "static"
STATIC_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".ico": "image/vnd.microsoft.icon",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml; charset=utf-8",
}
"""Content types of the static files, by suffix."""
_SHARED_SECONDS = 3600


class Asset(NamedTuple):
    """One prebuilt response body."""

    content_type: str
    body: bytes
    etag: str


def _asset(content_type: str, body: bytes) -> Asset:
    return Asset(content_type, body, etag=f'"{hashlib.sha256(body).hexdigest()[:24]}"')


@cache
def _static_files() -> dict[str, Asset]:
    return {
        path.name: _asset(STATIC_TYPES[path.suffix], path.read_bytes())
        for path in sorted(STATIC.iterdir())
        if path.suffix in STATIC_TYPES
    }


@cache
def static_version() -> str:
    """Return a name for the state of all static files together: a part of their addresses, so they never go stale."""
    etags = "".join(f"{name}{asset.etag}" for name, asset in _static_files().items())
    return hashlib.sha256(etags.encode()).hexdigest()[:12]


def static_url(name: str) -> str:
    """Return the address of one static file, for a page.

    Raise `KeyError` for a name that does not exist: a page must not be rendered with it.
    """
    _static_files()[name]
    return f"/static/{static_version()}/{name}"


def static_file(name: str) -> bytes:
    """Return the content of one static file. Raise `KeyError` for a name that does not exist."""
    return _static_files()[name].body


def assets_by_path() -> dict[str, Asset]:
    """Return all assets by path: the badges under BinderHub's paths, the icons, and the static files of the pages."""
    files = _static_files()
    plain_badge = _asset(STATIC_TYPES[".svg"], badge_svg(with_mark=False))

    return {
        "/badge.svg": plain_badge,
        "/badge_logo.svg": _asset(STATIC_TYPES[".svg"], badge_svg(with_mark=True)),
        "/assets/images/badge.svg": plain_badge,
        "/favicon.ico": files["favicon.ico"],
        "/favicon.svg": files["mark.svg"],
        **{static_url(name): asset for name, asset in files.items()},
    }


class _Response(NamedTuple):
    body: bytes
    headers: list[tuple[bytes, bytes]]
    etag: str


class StaticAssets:
    """Plain ASGI app ahead of all middleware: GET and HEAD of known paths, with etags, readable from any site.

    During a rolling upgrade a page of one release may ask a gateway of another for its files: an address with another
    version gets the file of the same name, which the browser then does not keep.

    With `reload` (development), the files are read again at each request.
    """

    def __init__(self, app: ASGIApp, *, reload: bool = False) -> None:
        self.app = app
        self._reload = reload
        self._load()

    def _load(self) -> None:
        pinned_folder = f"/static/{static_version()}/"
        self._responses: dict[str, _Response] = {}
        for path, asset in assets_by_path().items():
            if path.startswith(pinned_folder):
                name = path.removeprefix(pinned_folder)
                self._responses[path] = _response(asset, "public, max-age=31536000, immutable")
                self._responses[f"/static/{name}"] = _response(asset, "no-cache")
            else:
                self._responses[path] = _response(asset, f"public, max-age={_SHARED_SECONDS}")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the asset at the request's path, or let the application answer."""
        if scope["type"] != "http" or scope["method"] not in {"GET", "HEAD"}:
            await self.app(scope, receive, send)
            return

        if self._reload:  # also for a page: the addresses in it name the state of the files
            _static_files.cache_clear()
            static_version.cache_clear()
            self._load()

        response = self._find(scope["path"])
        if response is None:
            await self.app(scope, receive, send)
            return

        is_unchanged = _matches(Headers(scope=scope).get("if-none-match", ""), response.etag)
        status = 304 if is_unchanged else 200
        headers = response.headers
        if not is_unchanged:
            headers = [*headers, (b"content-length", str(len(response.body)).encode())]
        has_body = status == 200 and scope["method"] == "GET"
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": response.body if has_body else b""})

    def _find(self, path: str) -> _Response | None:
        response = self._responses.get(path)
        if response is None and path.startswith("/static/"):
            return self._responses.get("/static/" + path.rpartition("/")[2])
        return response


def _response(asset: Asset, cache_control: str) -> _Response:
    headers = {
        "content-type": asset.content_type,
        "etag": asset.etag,
        "cache-control": cache_control,
        "access-control-allow-origin": "*",
        "cross-origin-resource-policy": "cross-origin",
        "x-content-type-options": "nosniff",
        # An SVG opened by itself is a document of our origin: it runs and loads nothing.
        "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
    }

    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    return _Response(asset.body, encoded, asset.etag)


def _matches(if_none_match: str, etag: str) -> bool:
    tags = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return etag in tags or "*" in tags
