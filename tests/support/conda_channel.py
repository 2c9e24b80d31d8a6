"""A conda channel of small packages made here: the archives of `tar.bz2`, and the index over them."""

import bz2
import hashlib
import io
import json
import tarfile
import threading
from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import rattler

PLATFORM = str(rattler.Subdir.current())
PLACEHOLDER = "/" + "placeholder_" * 20 + "end"
"""Stands for the environment's own path in the files of a package. Conda's have about this length as well."""
Content = bytes | str | Path
"""What a file of a package holds. A `Path` that is relative makes it a symbolic link; an absolute one is copied."""


@dataclass(frozen=True, kw_only=True)
class CondaPackage:
    """A package. `files` are by their path in the environment, or in `site-packages/` for a `noarch` of Python.

    A file that holds `placeholder` has it replaced; one with a NUL byte is taken for a binary file.
    """

    name: str
    version: str = "1.0"
    depends: tuple[str, ...] = ()
    files: Mapping[str, Content] = field(default_factory=dict)
    placeholder: str = PLACEHOLDER
    is_noarch_python: bool = False
    entry_points: tuple[str, ...] = ()

    @property
    def subdir(self) -> str:
        return "noarch" if self.is_noarch_python else PLATFORM

    @property
    def file_name(self) -> str:
        return f"{self.name}-{self.version}-0.tar.bz2"

    @property
    def index(self) -> dict[str, object]:
        noarch = {"noarch": "python"} if self.is_noarch_python else {}
        return {
            "name": self.name,
            "version": self.version,
            "build": "0",
            "build_number": 0,
            "depends": list(self.depends),
            "subdir": self.subdir,
            **noarch,
        }

    def archive(self) -> bytes:
        """Return the package as a `.tar.bz2`."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            paths = [self._add(archive, name, content) for name, content in self.files.items()]
            metadata: dict[str, object] = {"index.json": self.index, "paths.json": {"paths": paths, "paths_version": 1}}
            if self.is_noarch_python:
                noarch = {"type": "python", "entry_points": list(self.entry_points)}
                metadata["link.json"] = {"noarch": noarch, "package_metadata_version": 1}
            for name, value in metadata.items():
                _add_file(archive, f"info/{name}", json.dumps(value).encode(), is_program=False)
        return bz2.compress(packed.getvalue(), 1)

    def _add(self, archive: tarfile.TarFile, name: str, content: Content) -> dict[str, object]:
        if isinstance(content, Path) and not content.is_absolute():
            link = tarfile.TarInfo(name)
            link.type = tarfile.SYMTYPE
            link.linkname = str(content)
            archive.addfile(link)
            return {"_path": name, "path_type": "softlink", "sha256": "0" * 64, "size_in_bytes": 0}

        data = content.read_bytes() if isinstance(content, Path) else _bytes(content)
        mode = content.stat().st_mode if isinstance(content, Path) else 0
        _add_file(archive, name, data, is_program=bool(mode & 0o100) or name.startswith("bin/"))
        placed = {}
        if self.placeholder.encode() in data:
            file_mode = "binary" if b"\0" in data else "text"
            placed = {"prefix_placeholder": self.placeholder, "file_mode": file_mode}
        digest = hashlib.sha256(data).hexdigest()
        return {"_path": name, "path_type": "hardlink", "sha256": digest, "size_in_bytes": len(data), **placed}


def make_channel(folder: Path, packages: Iterable[CondaPackage], *, tells: Mapping[str, object] | None = None) -> Path:
    """Write a channel into `folder`, which any server of files can serve; return it.

    `tells` is what its index says of each package in the place of the truth; None leaves a field out.
    """
    records: dict[str, dict[str, dict[str, object]]] = {"noarch": {}, PLATFORM: {}}
    for package in packages:
        data = package.archive()
        (folder / package.subdir).mkdir(parents=True, exist_ok=True)
        (folder / package.subdir / package.file_name).write_bytes(data)
        digests = {"md5": hashlib.md5(data).hexdigest(), "sha256": hashlib.sha256(data).hexdigest()}  # noqa: S324 - conda's index has it
        record = package.index | digests | {"size": len(data)} | dict(tells or {})
        records[package.subdir][package.file_name] = {
            name: value for name, value in record.items() if value is not None
        }

    for subdir, packages_of in records.items():
        (folder / subdir).mkdir(parents=True, exist_ok=True)
        index = {"info": {"subdir": subdir}, "packages": packages_of, "packages.conda": {}, "repodata_version": 1}
        (folder / subdir / "repodata.json").write_text(json.dumps(index))
    return folder


def _bytes(content: bytes | str) -> bytes:
    return content.encode() if isinstance(content, str) else content


def _add_file(archive: tarfile.TarFile, name: str, data: bytes, *, is_program: bool) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    entry.mode = 0o755 if is_program else 0o644
    entry.mtime = 1_600_000_000
    archive.addfile(entry, io.BytesIO(data))


class ChannelServer:
    """Serves a folder of channels on loopback, and remembers the paths that were asked for.

    With a `login` (user and password) it answers nobody else. Of a file named in `halves` it sends one half, and then
    nothing more until it stops.
    """

    def __init__(self, folder: Path, login: tuple[str, str] | None = None) -> None:
        self.folder = folder
        self.paths: list[str] = []
        self.halves: set[str] = set()
        self.halves_sent: list[str] = []
        self._stopping = threading.Event()
        self._expected = f"Basic {b64encode(':'.join(login).encode()).decode()}" if login else None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "ChannelServer":
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._server.server_close()

    def packages_sent(self) -> list[str]:
        """Return the file names of the packages that were asked for since the last call."""
        names = [path.rpartition("/")[2] for path in self.paths if path.endswith(".tar.bz2")]
        self.paths.clear()
        return names

    def _handler(self) -> type[SimpleHTTPRequestHandler]:
        server = self

        class Handler(SimpleHTTPRequestHandler):
            def __init__(self, *arguments: Any) -> None:
                super().__init__(*arguments, directory=str(server.folder))

            def do_GET(self) -> None:
                server.paths.append(self.path)
                if server._expected and self.headers.get("Authorization") != server._expected:
                    self.send_error(401)
                elif (name := self.path.rpartition("/")[2]) in server.halves:
                    self._send_half(Path(self.translate_path(self.path)).read_bytes(), name)
                else:
                    super().do_GET()

            def _send_half(self, content: bytes, name: str) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2])
                server.halves_sent.append(name)
                server._stopping.wait()

            def log_message(self, *_: object) -> None:
                pass

        return Handler
