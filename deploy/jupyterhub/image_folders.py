"""Image folders (`<data>/images/`), and the folders of the servers that run from them (`<data>/servers/`).

The builder writes the image folders, and removes the least recently launched ones when they grow too large. Builder and
hub hold the lock `images/.lock` while they choose an image to remove or to run, so that no image is removed from under
a server that starts.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from deploy.jupyterhub.files import remove_tree, write_json
from deploy.jupyterhub.processes import Identity, identify


@dataclass(frozen=True)
class ImageFolder:
    """One finished image. `program` is what serves it; None without Jupyter. It needs overlays if `is_layered`."""

    path: Path
    program: str | None
    is_layered: bool

    @property
    def build_id(self) -> str:
        """Id of the build, which is the folder's name."""
        return self.path.name


@dataclass(frozen=True, kw_only=True)
class ServerRecord:
    """Content of `<data>/servers/<server key>.json`: the process that runs from an image.

    The builder reads `pid`, `start_time` and `build_id`. While the server is prepared, `port` is null and the process
    is the hub itself; until the server's port is known, `port` is 0.
    """

    pid: int
    start_time: str
    port: int | None
    build_id: str
    image: str
    server: str
    v: int = 1

    @property
    def process(self) -> Identity:
        """Identity of the process."""
        return Identity(self.pid, self.start_time)


class ServerFolder:
    """Folder of one server: what it changes, what Jupyter writes while it runs, and a log."""

    def __init__(self, data_dir: Path, server: str) -> None:
        self.server = server
        self.path = data_dir / "servers" / hashlib.sha256(server.encode()).hexdigest()[:24]
        self.record_path = self.path.with_suffix(".json")
        self.runtime = self.path / "runtime"
        self.configuration = self.path / "jupyter"
        self.log = self.path / "server.log"

    def record(self) -> ServerRecord | None:
        """Return the record of this server, or None if there is none or it is not readable."""
        try:
            fields = json.loads(self.record_path.read_text())
            return ServerRecord(**{name: fields[name] for name in ServerRecord.__dataclass_fields__})
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write_record(self, record: ServerRecord) -> None:
        """Replace the record of this server."""
        write_json(self.record_path, asdict(record))

    def make(self) -> None:
        """Make the folder anew."""
        remove_tree(self.path)
        self.path.mkdir(parents=True, mode=0o700)
        self.runtime.mkdir(mode=0o700)

    def remove(self) -> None:
        """Remove the folder and its record, if they exist."""
        remove_tree(self.path)
        self.record_path.unlink(missing_ok=True)


def claim(data_dir: Path, image: str, server: ServerFolder, *, has_overlays: bool) -> ImageFolder | None:
    """Find the newest folder of an image and mark it as used by `server`, which is about to start.

    Return None if there is no such image that can be run here. Block while the builder chooses an image to remove.
    """
    images = data_dir / "images"
    images.mkdir(parents=True, exist_ok=True)
    with _locked(images / ".lock"):
        folder = _find(images, image, has_overlays=has_overlays)
        if folder is None:
            return None

        hub = identify(os.getpid())
        if hub is None:
            raise OSError("this system does not say when a process started")
        server.write_record(
            ServerRecord(
                pid=hub.pid,
                start_time=hub.start_time,
                port=None,
                build_id=folder.build_id,
                image=image,
                server=server.server,
            )
        )
        (folder.path / "last-launched").touch()
        return folder


def _find(images: Path, image: str, *, has_overlays: bool) -> ImageFolder | None:
    key = hashlib.sha256(image.encode()).hexdigest()[:24]
    attempts: dict[int, ImageFolder] = {}
    for manifest_path in images.glob(f"{key}-*/image.json"):
        attempt = manifest_path.parent.name.rpartition("-")[2]
        try:
            manifest = json.loads(manifest_path.read_text())
            folder = ImageFolder(manifest_path.parent, manifest["program"], manifest["is_layered"])
            if has_overlays or not folder.is_layered:
                attempts[int(attempt)] = folder
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return attempts[max(attempts)] if attempts else None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
