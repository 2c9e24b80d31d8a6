"""The files of builds and images under the data folder, and the locks that show which builds are alive."""

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO

from pydantic import BaseModel, ConfigDict, ValidationError

from services.builder.executors.process.session.processes import Identity
from services.common.models.build import image_key
from services.common.net.credential import ScopedCredential

_LOCK_TRIES = 50
_LOCK_TRY_SECONDS = 0.01


class Manifest(BaseModel):
    """`image.json`, written last: an image folder without it is half built.

    `program` is the name of the program in the environment that serves it;
    None without any. `start` is the path of the start script in the repository. `is_layered` tells that it needs
    overlays, over the base that `base` names if there is one.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    v: int = 1
    image: str
    build_id: str
    repo_url: str
    ref: str
    python: str
    created: str
    start: str | None
    program: str | None = None
    is_layered: bool = False
    base: str | None = None


class Exit(BaseModel):
    """`exit.json`: how a build ended."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    v: int = 1
    ok: bool
    error: "ExitError | None" = None


class ExitError(BaseModel):
    """Why a build failed: a code from the closed list of errors, and a sentence."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    code: str
    message: str


class Layout:
    """The folders of an installation's data folder that builds use."""

    def __init__(self, data_dir: Path) -> None:
        self.data = data_dir.absolute()
        self.images = self.data / "images"
        self.bases = self.data / "bases"
        self.builds = self.data / "builds"
        self.servers = self.data / "servers"
        self.conda_cache = self.data / "cache" / "conda"
        self.process_records = self.data / "run" / "processes"

    def build(self, build_id: str) -> "BuildFolder":
        """Return the folder of a build, whether or not it exists."""
        return BuildFolder(self.builds / build_id)

    def image(self, build_id: str) -> "ImageFolder":
        """Return the image folder of a build, whether or not it exists."""
        return ImageFolder(self.images / build_id)

    def images_of(self, image: str) -> list["ImageFolder"]:
        """Return the finished folders of an image, the newest attempt first."""
        folders = [ImageFolder(path.parent) for path in self.images.glob(f"{image_key(image)}-*/image.json")]
        finished = [folder for folder in folders if folder.manifest()]
        return sorted(finished, key=lambda folder: folder.attempt, reverse=True)

    @contextmanager
    def images_locked(self) -> Iterator[None]:
        """Hold the lock under which images are removed, and starting servers claim them."""
        self.images.mkdir(parents=True, exist_ok=True)
        with (self.images / ".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


class BuildFolder:
    """`<data>/builds/<build id>/`: a session's instructions, its log, and how it ended."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.build_id = path.name
        self.spec = path / "spec.json"
        self.log = path / "log"
        self.exit_path = path / "exit.json"
        self.session_path = path / "session.json"
        self.home = path / "home"
        self.credential = path / "credential.json"
        self.epoch = path / "epoch"
        self.run = path / "run"
        self.lock_path = path / "lock"
        self.ensure_lock_path = path / "ensure.lock"

    def exit(self) -> Exit | None:
        """Return how the build ended; None while it runs, and if that can't be read: then nobody knows."""
        try:
            return Exit.model_validate_json(self.exit_path.read_bytes())
        except (FileNotFoundError, NotADirectoryError, ValidationError):
            return None

    def session(self) -> Identity | None:
        """Return the process that was started for this build, whether or not it still lives."""
        try:
            fields = json.loads(self.session_path.read_text())
            return Identity(int(fields["pid"]), str(fields["start_time"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def leave_credential(self, credential: ScopedCredential | None) -> None:
        """Leave a credential for the session, which removes the file as it reads it; None: remove what is there."""
        self.credential.unlink(missing_ok=True)
        if credential:
            with os.fdopen(os.open(self.credential, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                json.dump(asdict(credential), file)

    def take_credential(self) -> ScopedCredential | None:
        """Return the credential that was left here, and remove its file; None without one."""
        try:
            fields = json.loads(self.credential.read_text())
        except FileNotFoundError:
            return None
        self.credential.unlink()
        return ScopedCredential(**fields)

    def take_lock(self) -> IO[str] | None:
        """Take the session's lock, for as long as the returned file stays open; None if a session has it.

        Tries for half a second, because a caller of `is_alive` holds the lock for an instant.
        """
        lock = self.lock_path.open("a")
        for _ in range(_LOCK_TRIES):
            if _try_lock(lock, fcntl.LOCK_EX):
                return lock
            time.sleep(_LOCK_TRY_SECONDS)
        lock.close()
        return None

    @property
    def is_alive(self) -> bool:
        """Whether a session works on this build."""
        try:
            with self.lock_path.open("a") as lock:
                return not _try_lock(lock, fcntl.LOCK_SH)
        except FileNotFoundError:
            return False


class ImageFolder:
    """`<data>/images/<build id>/`: the environment in `env`, and the repository in `repo`, which is the home folder.

    `bytecode` lies over `env`, and `env_changes` over both. `runtime` starts servers of the image.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.build_id = path.name
        self.env = path / "env"
        self.repo = path / "repo"
        self.bytecode = path / "bytecode"
        self.env_changes = path / "env-changes"
        self.runtime = path / "image_runtime"
        self.activation_path = path / "activation.json"
        self.manifest_path = path / "image.json"
        self._size_path = path / "size"
        self.last_launched_path = path / "last-launched"

    @property
    def attempt(self) -> int:
        """The number of the attempt that built this image; -1 for a folder of another name."""
        number = self.build_id.rpartition("-")[2]
        return int(number) if number.isdecimal() else -1

    @property
    def python(self) -> Path:
        """The interpreter of the image's environment."""
        return self.env / "bin" / "python"

    def manifest(self) -> Manifest | None:
        """Return the manifest; None if the image is half built or has been removed."""
        try:
            return Manifest.model_validate_json(self.manifest_path.read_bytes())
        except (OSError, ValidationError):
            return None

    def launched_at(self) -> float | None:
        """Return when a server was last started from this image, in Unix seconds; None if never."""
        try:
            return self.last_launched_path.stat().st_mtime
        except FileNotFoundError:
            return None

    def size_bytes(self) -> int:
        """Return the size of its blocks, which is measured once: when nothing is added to the folder any more."""
        try:
            return int(self._size_path.read_text())
        except (OSError, ValueError):
            size = size_bytes(self.path)
        with suppress(OSError):  # it was removed meanwhile
            self._size_path.write_text(str(size))
        return size

    def remove(self) -> None:
        """Remove the folder, half built or not. Do nothing if it does not exist."""
        remove_tree(self.path)


def size_bytes(folder: Path, *, enough: int | None = None) -> int:
    """Return the size of the blocks of what is below `folder`, each file once. Counting may stop past `enough`."""
    total = 0
    linked: set[tuple[int, int]] = set()
    for parent, _, files in os.walk(folder):
        for name in files:
            try:
                status = os.lstat(os.path.join(parent, name))  # noqa: PTH118 -- twice as fast, and it counts
            except FileNotFoundError:
                continue
            if status.st_nlink > 1:
                file = (status.st_dev, status.st_ino)
                if file in linked:
                    continue
                linked.add(file)
            total += status.st_blocks * 512
        if enough is not None and total > enough:
            break
    return total


def write_atomically(path: Path, text: str) -> None:
    """Replace a small file in one step, so that a reader sees the old or the new content, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)

    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text)
    draft.replace(path)


def remove_tree(folder: Path) -> None:
    """Remove a folder, even if a program that ran there took permissions away. A missing folder is fine."""
    if not folder.exists():
        return

    try:
        shutil.rmtree(folder)
    except OSError:
        for parent, folders, _ in os.walk(folder):
            for path in (Path(parent), *(Path(parent, child) for child in folders)):  # before `walk` enters the child
                if not path.is_symlink():
                    path.chmod(0o700)
        shutil.rmtree(folder, ignore_errors=True)


def _try_lock(lock: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
