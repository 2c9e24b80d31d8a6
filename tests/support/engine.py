"""A real container engine, a registry (on 127.0.0.1:5000), and the images of the docker and cluster tests.

`engine()` uses `DOCKER_HOST` where it is given, else the engine that it started itself, else one at the usual socket,
else it starts a dockerd of its own (Debian's docker.io, as root): own socket, folders and memory cgroup, all below
`~/.cache/bindery-tests`. The last of those who use it at once takes it down; what an earlier run left is ended by its
recorded pid. `BINDERY_TEST_REGISTRY` (host:port, http) is another registry, which engine, cluster and this machine all
reach under that name. By hand:

    python -m tests.support.engine run -- make test-docker     # keeps one up for the length of a command
"""

import argparse
import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.support import engine_images
from tests.support.polling import eventually

CACHE = Path(os.environ.get("BINDERY_TEST_ENGINE_CACHE") or Path.home() / ".cache" / "bindery-tests")
RUN = Path("/run/bindery-tests")
SOCKET = RUN / "docker.sock"
OUR_HOST = f"unix://{SOCKET}"
USUAL_SOCKET = Path("/var/run/docker.sock")
OUR_REGISTRY = "127.0.0.1:5000"
REGISTRY = os.environ.get("BINDERY_TEST_REGISTRY") or OUR_REGISTRY
CGROUP = "bindery-tests"
MEMORY_BYTES = 3 << 30
"""What all containers and RUN steps of our own engine may use together: a whole docker-compose.yml, and builds."""


class NoEngineError(Exception):
    """There is no engine and none can be started; the message says in one line what is missing."""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """An engine that answers, with the images that tests need in it.

    `builder` runs repo2docker; `jupyter` is what test repositories' Dockerfiles begin with; `memory_bytes` is the limit
    of RUN steps, None where the engine is not ours and nothing is known of it.
    """

    host: str
    base: str
    builder: str
    jupyter: str
    memory_bytes: int | None = None
    registry: str = REGISTRY

    @property
    def socket(self) -> Path:
        """The engine's socket. Fails where it has none."""
        assert self.host.startswith("unix://"), f"these tests need an engine on a socket, not {self.host}"
        return Path(self.host.removeprefix("unix://"))

    def docker(self, *arguments: str, seconds: float = 60, is_checked: bool = True) -> str:
        """Return what a docker command prints."""
        return docker(self.host, *arguments, seconds=seconds, is_checked=is_checked)


def docker(host: str, *arguments: str, seconds: float = 60, is_checked: bool = True) -> str:
    """Return what a docker command prints. Raise `subprocess.CalledProcessError`, `subprocess.TimeoutExpired`."""
    process = subprocess.run(
        ["docker", *arguments], env={**os.environ, "DOCKER_HOST": host, "DOCKER_BUILDKIT": "0"}, capture_output=True,
        text=True, timeout=seconds, check=False,
    )  # fmt: skip
    if is_checked and process.returncode:
        raise subprocess.CalledProcessError(process.returncode, f"docker {' '.join(arguments)}\n{process.stderr}")
    return process.stdout


@contextlib.contextmanager
def engine() -> Iterator[Engine]:
    """Keep an engine, the registry and the images there for the length of the block. Raise `NoEngineError`."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "in-use").open("a") as in_use:
        with _changing():
            try:
                host = _find() or _start_dockerd()
                _start_registry()
                base, builder, jupyter = engine_images.ensure(host, CACHE)
                fcntl.flock(in_use, fcntl.LOCK_SH)
            except BaseException:
                _take_down_unless(in_use)
                raise
        memory_bytes = MEMORY_BYTES if host == OUR_HOST and _cgroup() else None
        try:
            yield Engine(host=host, base=base, builder=builder, jupyter=jupyter, memory_bytes=memory_bytes)
        finally:
            with _changing():
                _take_down_unless(in_use)


@contextlib.contextmanager
def _changing() -> Iterator[None]:
    """Hold the lock under which the engine is brought up and taken down."""
    with (CACHE / "changing").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _take_down_unless(in_use: IO[str]) -> None:
    """Take down what the tests started, unless another run uses it still: that one does it later."""
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(in_use, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if SOCKET.exists() and _answers(OUR_HOST):
            _tidy(OUR_HOST)
        _take_down()


def _find() -> str | None:
    if docker_host := os.environ.get("DOCKER_HOST"):
        if not _answers(docker_host):
            raise NoEngineError(f"the engine at DOCKER_HOST={docker_host} does not answer")
        return docker_host
    for socket in (SOCKET, USUAL_SOCKET):
        if socket.exists() and _answers(f"unix://{socket}"):
            return f"unix://{socket}"
    return None


def _answers(host: str) -> bool:
    if not shutil.which("docker"):
        return False
    try:
        docker(host, "version", seconds=10)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return False
    return True


def install(*pairs: str) -> None:
    """Install Debian packages whose program is missing, given as `package=program`. Raise `NoEngineError`."""
    missing = [package for package, _, program in (pair.partition("=") for pair in pairs) if not shutil.which(program)]
    if not missing:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise NoEngineError(f"these are missing and can't be installed here: {', '.join(missing)}")
    apt = ["apt-get", "-o", "DPkg::Lock::Timeout=300", "-qq"]
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in ([*apt, "update"], [*apt, "install", "--yes", "--no-install-recommends", *missing]):
        process = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=600, check=False)
        if process.returncode:
            raise NoEngineError(f"apt-get failed: {process.stderr.strip()[-300:]}")


def _start_dockerd() -> str:
    if os.geteuid() != 0:
        raise NoEngineError("no container engine answers, and only root can start one: set DOCKER_HOST")
    install("docker.io=dockerd", "mmdebstrap=mmdebstrap")
    _end(RUN / "dockerd.json")
    RUN.mkdir(parents=True, exist_ok=True)
    (RUN / "docker.pid").unlink(missing_ok=True)
    command = [
        "dockerd", "--host", f"unix://{SOCKET}", "--data-root", str(CACHE / "docker"), "--exec-root", str(RUN / "exec"),
        "--pidfile", str(RUN / "docker.pid"), *(["--cgroup-parent", f"/{CGROUP}"] if _make_cgroup() else []),
    ]  # fmt: skip
    process = _spawn(command, "dockerd")

    def is_up() -> bool:
        assert process.poll() is None, (CACHE / "dockerd.log").read_text()[-2000:]
        return SOCKET.exists() and _answers(OUR_HOST)

    eventually(is_up, "dockerd answers", 60)
    return OUR_HOST


def _make_cgroup() -> bool:
    """Make a memory cgroup with a limit, in version 1 or 2 of cgroups; False where that is not allowed."""
    root = Path("/sys/fs/cgroup")
    is_first = (root / "memory").is_dir()
    folder = root / "memory" / CGROUP if is_first else root / CGROUP
    try:
        if not is_first:
            (root / "cgroup.subtree_control").write_text("+memory")
        folder.mkdir(exist_ok=True)
        (folder / ("memory.limit_in_bytes" if is_first else "memory.max")).write_text(str(MEMORY_BYTES))
    except OSError:
        return False
    return True


def _cgroup() -> Path | None:
    """Our engine's cgroup, where it has one."""
    folders = (Path("/sys/fs/cgroup/memory") / CGROUP, Path("/sys/fs/cgroup") / CGROUP)
    return next((folder for folder in folders if folder.is_dir()), None)


def _start_registry() -> None:
    """See to it that a registry answers on port 5000; its storage begins empty."""
    if _registry_answers():
        return
    if REGISTRY != OUR_REGISTRY:
        raise NoEngineError(f"the registry at BINDERY_TEST_REGISTRY={REGISTRY} does not answer")
    install("docker-registry=docker-registry")
    RUN.mkdir(parents=True, exist_ok=True)
    _end(RUN / "registry.json")
    storage = CACHE / "registry"
    shutil.rmtree(storage, ignore_errors=True)
    config = CACHE / "registry.yml"
    config.write_text(
        f"version: 0.1\nlog: {{level: warn}}\nhttp: {{addr: {REGISTRY}}}\n"
        f"storage: {{filesystem: {{rootdirectory: {storage}}}, delete: {{enabled: true}}}}\n"
    )
    process = _spawn(["docker-registry", "serve", str(config)], "registry")

    def is_up() -> bool:
        assert process.poll() is None, (CACHE / "registry.log").read_text()[-2000:]
        return _registry_answers()

    eventually(is_up, f"the registry answers on {REGISTRY}")


def registry_url(host: str) -> str:
    """Return the registry's address for pods: its name if one was given, else this machine, which is their `host`."""
    return f"http://{REGISTRY if REGISTRY != OUR_REGISTRY else OUR_REGISTRY.replace('127.0.0.1', host)}"


def _registry_answers() -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{REGISTRY}/v2/", timeout=5) as reply:
        return bool(reply.status == 200)
    return False


def _spawn(command: list[str], name: str) -> subprocess.Popen[bytes]:
    with (CACHE / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/"
        )
    (RUN / f"{name}.json").write_text(json.dumps({"pid": process.pid, "begun": _start_time(process.pid)}))
    return process


def _start_time(pid: int) -> str:
    """Return a process's start in the kernel's ticks, which with its pid identifies it; empty for an ended process."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] == "Z" else fields[19]
    return ""


def _end(record: Path) -> None:
    """End what an earlier run, or this one, recorded; never another process that has got its pid."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        process_record = json.loads(record.read_text())
        pid = int(process_record["pid"])
        started_at = str(process_record["begun"])
        for number, seconds in ((signal.SIGTERM, 30.0), (signal.SIGKILL, 5.0)):
            if not started_at or _start_time(pid) != started_at:
                break
            os.kill(pid, number)
            with contextlib.suppress(AssertionError):
                eventually(lambda: _reaped(pid, started_at), f"{record.stem} ends", seconds)
    record.unlink(missing_ok=True)


def _reaped(pid: int, started_at: str) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:  # an earlier run's
        return _start_time(pid) != started_at


def _tidy(host: str) -> None:
    """Leave nothing in our engine but the images that the next run needs."""
    if containers := docker(host, "ps", "--all", "--quiet").split():
        docker(host, "rm", "--force", *containers, is_checked=False)
    names = docker(host, "images", "--format", "{{.Repository}}:{{.Tag}}").split()
    if others := [name for name in names if not name.startswith(f"{engine_images.PREFIX}/") and "<none>" not in name]:
        docker(host, "rmi", "--force", *others, is_checked=False)
    docker(host, "image", "prune", "--force", is_checked=False)


def _take_down() -> None:
    for name in ("registry", "dockerd"):
        _end(RUN / f"{name}.json")
    if folder := _cgroup():
        with contextlib.suppress(OSError):
            folder.rmdir()


def main() -> None:
    parser = argparse.ArgumentParser(description="Keep the engine of the tests up for the length of a command.")
    parser.add_argument("verb", choices=["run"])
    parser.add_argument("command", nargs=argparse.REMAINDER)
    chosen = parser.parse_args()
    try:
        with engine() as the_engine:
            print(f"DOCKER_HOST={the_engine.host} registry={the_engine.registry}", flush=True)
            print(f"builder={the_engine.builder} jupyter={the_engine.jupyter} base={the_engine.base}", flush=True)
            command = chosen.command[1:] if chosen.command[:1] == ["--"] else chosen.command
            code = subprocess.run(command, check=False).returncode if command else 0
    except NoEngineError as error:
        print(f"no test on a container engine was run: {error}", flush=True)
        code = 1 if os.environ.get("CI") else 0
    raise SystemExit(code)


if __name__ == "__main__":
    main()
