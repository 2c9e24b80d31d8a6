"""Image folders (`<data>/images/`), and the folders of the servers that run from them (`<data>/servers/`).

The builder writes the image folders, and removes the least recently launched ones when they grow too large. Builder and
hub hold the lock `images/.lock` while they choose an image to remove or to run, so that no image is removed from under
a server that starts.
"""

import fcntl
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from deploy.jupyterhub.files import remove_tree, write_json
from deploy.jupyterhub.processes import Identity, identify


class CopyCancelledError(Exception):
    """The copy was cancelled."""


@dataclass(frozen=True)
class ImageFolder:
    """One finished image: an environment in `env`, the repository in `repo`, its HOME in `home`."""

    path: Path
    start: str | None

    @property
    def build_id(self) -> str:
        """Id of the build, which is the folder's name."""
        return self.path.name

    @property
    def jupyter(self) -> Path | None:
        """Program that serves this image: JupyterLab's if it is there, else Notebook's; None without either."""
        for program, package in (("jupyter-lab", "jupyterlab"), ("jupyter-notebook", "notebook")):
            script = self.path / "env" / "bin" / program
            if script.is_file() and any(self.path.glob(f"env/lib/python*/site-packages/{package}/__init__.py")):
                return script
        return None


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
    """Folder of one server: a copy of the repository to work in, a HOME and a log."""

    def __init__(self, data_dir: Path, server: str) -> None:
        self.server = server
        self.path = data_dir / "servers" / hashlib.sha256(server.encode()).hexdigest()[:24]
        self.record_path = self.path.with_suffix(".json")
        self.work = self.path / "work"
        self.home = self.path / "home"
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

    def fill_from(self, image: ImageFolder, stop_requested: threading.Event) -> None:
        """Copy the image's repository and HOME here. Raise `CopyCancelledError` once `stop_requested` is set."""

        def copy(source: str, target: str) -> str:
            if stop_requested.is_set():
                raise CopyCancelledError
            return shutil.copy2(source, target)

        remove_tree(self.path)
        self.path.mkdir(parents=True, mode=0o700)
        shutil.copytree(image.path / "repo", self.work, symlinks=True, copy_function=copy)

        home = image.path / "home"
        if home.is_dir():
            without_caches = shutil.ignore_patterns(".cache")
            shutil.copytree(home, self.home, symlinks=True, copy_function=copy, ignore=without_caches)

        self.home.mkdir(exist_ok=True)
        self.runtime.mkdir(mode=0o700)

    def remove(self) -> None:
        """Remove the folder and its record, if they exist."""
        remove_tree(self.path)
        self.record_path.unlink(missing_ok=True)


def claim(data_dir: Path, image: str, server: ServerFolder) -> ImageFolder | None:
    """Find the newest folder of an image and mark it as used by `server`, which is about to start.

    Return None if there is no such image. Block while the builder chooses an image to remove.
    """
    images = data_dir / "images"
    images.mkdir(parents=True, exist_ok=True)
    with _locked(images / ".lock"):
        folder = _find(images, image)
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


def _find(images: Path, image: str) -> ImageFolder | None:
    key = hashlib.sha256(image.encode()).hexdigest()[:24]
    attempts: dict[int, ImageFolder] = {}
    for manifest_path in images.glob(f"{key}-*/bindery.json"):
        attempt = manifest_path.parent.name.rpartition("-")[2]
        try:
            manifest = json.loads(manifest_path.read_text())
            attempts[int(attempt)] = ImageFolder(manifest_path.parent, manifest["start"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return attempts[max(attempts)] if attempts else None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
