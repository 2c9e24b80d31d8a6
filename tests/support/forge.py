"""The one fake forge: a loopback HTTP server with real git repositories and GitHub's API in the recorded shape.

`http://host:port/<org>/<repo>` (with or without `.git`; `git/<name>` too) is served by the real `git http-backend`,
`/dumb/<org>/<repo>` as plain files, and `/api/repos/<org>/<repo>/commits/<ref>` as api.github.com answers. By hand:

    python -m tests.support.forge --root DIR --port 8000 --add org/name=FOLDER
"""

import argparse
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.bare_repos import git_environment
from tests.support.forge_github import GitHubReplies
from tests.support.forge_pages import Fault, Page, Request, json_page
from tests.support.lfs_objects import LfsObjects

__all__ = ["Fault", "Forge", "Page", "Request"]

GIT_PATHS = ("/info/refs", "/git-upload-pack")


class Forge(GitHubReplies):
    """The repositories under `root`, served until `stop`. Set `api_fault`, `git_fault`, `pages` to make it misbehave.

    Its git answers 404 to whoever is not called `git/…`, as many hosts do. `pages` are looked up by path before
    anything else; of a list each page is answered once. With `lfs`, there is a Git LFS server beside each repository.
    `speaks_v2 = False` makes git answer in protocol 0, as old servers do, and `speaks_v0 = False` refuse whoever asks
    by that. `private` has the token of each repository (`<org>/<name>`) that only its holder may read: to anybody else
    the API answers 404, and git 401. `rate_remaining` and `rate_reset` (Unix seconds) go into the API's headers.
    """

    def __init__(self, root: Path, *, host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__(root)
        self.requests: list[Request] = []
        self.git_fault: Fault | None = None
        self.pages: dict[str, Page | list[Page]] = {}
        self.lfs: LfsObjects | None = None
        self.speaks_v0 = True
        self.speaks_v2 = True
        self.stopping = threading.Event()
        self._server = _Server((host, port), _Handler)
        self._server.forge = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """Where the repositories are: what BINDERY_GITHUB_URL is set to."""
        return f"http://{self._server.server_address[0]!s}:{self.port}"

    @property
    def api_url(self) -> str:
        """Where the API is: what BINDERY_GITHUB_API_URL is set to."""
        return f"{self.url}/api"

    @property
    def api_requests(self) -> list[Request]:
        return [request for request in self.requests if request.path.startswith("/api/")]

    def start(self) -> "Forge":
        self._thread.start()
        return self

    def serve_tls(self, context: ssl.SSLContext) -> None:
        """Speak TLS from now on."""
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def stop(self) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> "Forge":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256
    forge: Forge

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore a client that left."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or a body waits 40 ms for the acknowledgement of its headers
    server: _Server

    def do_GET(self) -> None:
        forge = self.server.forge
        path = urlsplit(self.path).path
        body = b"".join(self._body())
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(method=self.command, path=self.path, headers=headers, body=body)
        forge.requests.append(request)
        if page := forge.pages.get(path):
            self._send(page.pop(0) if isinstance(page, list) else page)
            return
        if forge.lfs and forge.lfs.serves(path):
            self._send(forge.lfs.answer(forge.url, request, body))
            return
        fault = forge.api_fault if path.startswith("/api/") else forge.git_fault
        if fault and fault.hold:
            while not fault.hold.wait(0.05) and not forge.stopping.is_set():
                pass
        if fault and fault.hangs_up:
            self.close_connection = True
            return
        if fault and fault.status:
            self._send(Page(fault.status, fault.headers, fault.body))
            return
        parts = path.strip("/").split("/")
        if parts[0] == "api":
            self._api(parts)
        elif parts[0] == "dumb" and len(parts) > 3:
            self._file(parts[1], parts[2].removesuffix(".git"), parts[3:])
        elif path.endswith(GIT_PATHS):
            if self.headers.get("User-Agent", "").startswith("git/"):
                self._git(path, body)
            else:
                self._send(Page(404, {"Content-Type": "text/html"}, b"This is no page."))
        elif len(parts) == 2 and forge.folder(parts[0], parts[1].removesuffix(".git")).is_dir():
            self._send(Page(200, {"Content-Type": "text/html"}, b"<title>A repository</title>"))
        else:
            self._send(Page(404, {"Content-Type": "text/plain"}, b"There is nothing here."))

    do_POST = do_GET  # noqa: N815 - http.server calls it so
    do_HEAD = do_GET  # noqa: N815

    def _api(self, parts: list[str]) -> None:
        forge = self.server.forge
        org, name = (*parts[2:4], "", "")[:2]
        name = name.removesuffix(".git")
        is_known = parts[1] == "repos" and forge.folder(org, name).is_dir()
        if is_known and not forge.may_read(org, name, self.headers.get("Authorization", "")):
            self._send(json_page(404, {"message": "Not Found"}, {}))
        elif is_known and len(parts) == 4:
            self._send(forge.repository_reply(org, name))
        elif is_known and len(parts) == 6 and parts[4] == "compare":
            self._send(forge.comparison_reply(org, name, *unquote(parts[5]).split("...")))
        elif is_known and len(parts) > 5 and parts[4] == "contents":
            ref = parse_qs(urlsplit(self.path).query)["ref"][0]
            self._send(forge.contents_reply(org, name, unquote("/".join(parts[5:])), ref))
        elif is_known and parts[-1] == "branches-where-head":
            self._send(forge.branches_reply(org, name, parts[5]))
        elif len(parts) > 5 and parts[1] == "repos" and parts[4] == "commits":
            ref = unquote("/".join(parts[5:]))
            match = self.headers.get("If-None-Match", "")
            self._send(forge.commit_reply(org, name, ref, match))
        else:
            self._send(json_page(404, {"message": "Not Found"}, {}))

    def _file(self, org: str, name: str, rest: list[str]) -> None:
        forge = self.server.forge
        folder = forge.folder(org, name)
        if folder.is_dir():
            forge.git(org, name, "update-server-info")
        file = folder.joinpath(*rest)
        if ".." not in rest and file.is_file():
            self._send(Page(200, {"Content-Type": "application/octet-stream"}, file.read_bytes()))
        else:
            self._send(Page(404))

    def _git(self, path: str, body: bytes) -> None:
        forge = self.server.forge
        service = next(candidate for candidate in GIT_PATHS if path.endswith(candidate))
        org, _, name = unquote(path.removesuffix(service)).strip("/").partition("/")
        folder = forge.folder(org, name.removesuffix(".git"))
        if not name or ".." in name or not folder.is_dir():
            self._send(Page(404, {"Content-Type": "text/plain"}, b"Repository not found."))
            return
        if not forge.may_read(org, name.removesuffix(".git"), self.headers.get("Authorization", "")):
            self._send(Page(401, {"WWW-Authenticate": 'Basic realm="forge"'}, b"Who are you?"))
            return
        if not forge.speaks_v0 and self.headers.get("Git-Protocol") != "version=2":
            self._send(Page(403, {"Content-Type": "text/plain"}, b"Only git's protocol 2 is spoken here."))
            return
        environment = git_environment(forge.root) | {
            "GIT_PROJECT_ROOT": str(forge.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": f"/{folder.relative_to(forge.root)}{service}",
            "QUERY_STRING": urlsplit(self.path).query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", "") if forge.speaks_v2 else "",
        }
        process = subprocess.run(
            ["git", "http-backend"], input=body, capture_output=True, check=False,
            env=environment | {"CONTENT_LENGTH": str(len(body))},
        )  # fmt: skip
        head, _, content = process.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        self._send(Page(int(headers.pop("Status", "200").split()[0]), headers, content))

    def _body(self) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            yield self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _send(self, page: Page) -> None:
        self.send_response(page.status)
        for name, value in page.headers.items():
            if name.lower() not in {"content-length", "transfer-encoding"}:
                self.send_header(name, value)
        if isinstance(page.body, bytes):
            self.send_header("Content-Length", str(len(page.body)))
        else:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        if self.command == "HEAD":
            return
        for chunk in [page.body] if isinstance(page.body, bytes) else page.body:
            try:
                self.wfile.write(chunk)
            except OSError:
                self.close_connection = True
                return

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--root", type=Path, required=True, help="where the bare repositories lie")
    parser.add_argument("--port", type=int, default=0, help="0 chooses a free one")
    parser.add_argument("--add", action="append", default=[], metavar="ORG/NAME=FOLDER", help="make one of a folder")
    chosen = parser.parse_args()
    with Forge(chosen.root, port=chosen.port) as forge:
        for item in chosen.add:
            full_name, _, folder = item.partition("=")
            org, _, name = full_name.partition("/")
            print(f"{forge.url}/{full_name} {forge.add_folder(org, name, Path(folder))}", flush=True)
        print(f"BINDERY_GITHUB_URL={forge.url} BINDERY_GITHUB_API_URL={forge.api_url}", flush=True)
        print("BINDERY_ALLOWED_NETWORKS=127.0.0.0/8", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
