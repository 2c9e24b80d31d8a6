"""What is answered from prebuilt bytes, ahead of all middleware: badges, the favicon, style sheet and scripts."""

import hashlib
from functools import cache
from pathlib import Path

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

STATIC = Path(__file__).parent / "static"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".ico": "image/vnd.microsoft.icon",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml; charset=utf-8",
}
_SHARED_SECONDS = 3600

_MARK = (
    '<path d="M12.2 5.8c-1.8-1.6-4.3-2.1-6.6-1.5v9.8c2.3-.6 4.8-.1 6.6 1.5z" fill="#fff"/>'
    '<path d="M13.4 5.8c1.8-1.6 4.3-2.1 6.6-1.5v9.8c-2.3-.6-4.8-.1-6.6 1.5z" fill="#cfe5dd"/>'
    '<path d="M11 8h3.6M11 10.5h3.6M11 13h3.6" stroke="#f0a04b" stroke-width="1.1" stroke-linecap="round"/>'
)

Reply = tuple[str, bytes, str]
"""Content type, body, etag."""


def _badge(*, with_mark: bool) -> bytes:
    """A badge 20 px high; the texts' lengths are fixed, so that it looks the same in every font."""
    left, right = (64, 53) if with_mark else (46, 53)
    width, middle, label = left + right, left + right / 2, left - 22.5
    mark = _MARK if with_mark else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="20" viewBox="0 0 {width} 20" role="img" '
        'aria-labelledby="t"><title id="t">launch | bindery</title>'
        f'<clipPath id="c"><rect width="{width}" height="20" rx="3"/></clipPath><g clip-path="url(#c)">'
        f'<path d="M0 0h{left}v20H0z" fill="#3a4149"/><path d="M{left} 0h{right}v20H{left}z" fill="#0f6b59"/></g>{mark}'
        '<g fill="#fff" font-family="Verdana,DejaVu Sans,Geneva,sans-serif" font-size="11" text-anchor="middle" '
        'aria-hidden="true">'
        f'<text x="{label:g}" y="14" textLength="36">launch</text>'
        f'<text x="{middle:g}" y="14" textLength="43">bindery</text></g></svg>\n'
    ).encode()


def _reply(content_type: str, body: bytes) -> Reply:
    return content_type, body, f'"{hashlib.sha256(body).hexdigest()[:24]}"'


@cache
def _static_files() -> dict[str, Reply]:
    return {
        path.name: _reply(_TYPES[path.suffix], path.read_bytes())
        for path in sorted(STATIC.iterdir())
        if path.suffix in _TYPES
    }


@cache
def static_version() -> str:
    """Names the state of all static files together; a part of their addresses, so that they never go stale."""
    etags = "".join(f"{name}{etag}" for name, (_, _, etag) in _static_files().items())
    return hashlib.sha256(etags.encode()).hexdigest()[:12]


def static_url(name: str) -> str:
    """The address of one static file, for a page.

    Raises `KeyError` for a name that does not exist: a page must not be rendered with it.
    """
    _static_files()[name]
    return f"/static/{static_version()}/{name}"


def static_replies() -> dict[str, Reply]:
    """All prebuilt replies by path: the badges under BinderHub's paths, the icons, and what pages need."""
    files = _static_files()
    plain, with_mark = (_reply(_TYPES[".svg"], _badge(with_mark=mark)) for mark in (False, True))
    return {
        "/badge.svg": plain,
        "/badge_logo.svg": with_mark,
        "/assets/images/badge.svg": plain,
        "/favicon.ico": files["favicon.ico"],
        "/favicon.svg": files["mark.svg"],
        **{static_url(name): reply for name, reply in files.items()},
    }


class PrebuiltReplies:
    """Plain ASGI route ahead of all middleware: GET and HEAD of known paths, with etags, readable from any site.

    During a rolling upgrade a page of one release may ask another for its files: an address with another version
    gets the file of the same name, which is then not kept.

    With `reload` (development), the files are read again at each request.
    """

    def __init__(self, app: ASGIApp, *, reload: bool = False) -> None:
        self.app = app
        self._reload = reload
        self._load()

    def _load(self) -> None:
        pinned = f"/static/{static_version()}/"
        self._replies: dict[str, tuple[bytes, list[tuple[bytes, bytes]], bytes]] = {}
        for path, (content_type, body, etag) in static_replies().items():
            kept = f"max-age={_SHARED_SECONDS}"
            if path.startswith(pinned):
                kept = "max-age=31536000, immutable"
                self._add(f"/static/{path.removeprefix(pinned)}", content_type, body, etag, "no-cache")
            self._add(path, content_type, body, etag, f"public, {kept}")

    def _add(self, path: str, content_type: str, body: bytes, etag: str, cache_control: str) -> None:
        headers = {
            "content-type": content_type,
            "etag": etag,
            "cache-control": cache_control,
            "access-control-allow-origin": "*",
            "cross-origin-resource-policy": "cross-origin",
            "x-content-type-options": "nosniff",
            # An SVG opened by itself is a document of our origin: it runs and loads nothing.
            "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
        }
        self._replies[path] = body, [(k.encode(), v.encode()) for k, v in headers.items()], etag.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in {"GET", "HEAD"}:
            await self.app(scope, receive, send)
            return

        if self._reload:  # also for a page: the addresses in it name the state of the files
            _static_files.cache_clear()
            static_version.cache_clear()
            self._load()

        path = scope["path"]
        reply = self._replies.get(path)
        if reply is None and path.startswith("/static/"):
            reply = self._replies.get("/static/" + path.rpartition("/")[2])
        if reply is None:
            await self.app(scope, receive, send)
            return
        body, headers, etag = reply
        status = 304 if _matches(Headers(scope=scope).get("if-none-match", ""), etag.decode()) else 200
        if status == 200:
            headers = [*headers, (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body if status == 200 and scope["method"] == "GET" else b""})


def _matches(if_none_match: str, etag: str) -> bool:
    given = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return etag in given or "*" in given
