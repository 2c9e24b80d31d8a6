"""What goes wrong with the Redis of a stack, for the length of a block; each fault is made as it comes in real life."""

import contextlib
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.support.polling import eventually
from tests.support.stack import Stack

MIB = 2**20


def wait(seconds: float) -> None:
    """Let a fault last."""
    threading.Event().wait(seconds)


@contextlib.contextmanager
def without_replicas(stack: Stack) -> Iterator[None]:
    """NOREPLICAS: the operator asks for a replica at each write, and there is none."""
    with contextlib.closing(stack.redis()) as client:
        client.config_set("min-replicas-to-write", 1)
        try:
            yield
        finally:
            client.config_set("min-replicas-to-write", 0)


@contextlib.contextmanager
def failing_snapshots(stack: Stack) -> Iterator[None]:
    """MISCONF: the last snapshot could not be written, as a folder lies in its place."""
    obstacle = stack.data_dir / "redis" / "dump.rdb"
    obstacle.mkdir()
    with contextlib.closing(stack.redis()) as client:
        client.config_set("save", "3600 1000000")
        try:
            client.bgsave()
            eventually(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", "a snapshot that fails")
            yield
        finally:
            obstacle.rmdir()
            client.config_set("save", "")


@contextlib.contextmanager
def out_of_memory(stack: Stack) -> Iterator[None]:
    """OOM: `maxmemory` lies below what is used, and nothing may be evicted."""
    with contextlib.closing(stack.redis()) as client:
        client.config_set("maxmemory", MIB)
        try:
            yield
        finally:
            client.config_set("maxmemory", 0)


@contextlib.contextmanager
def busy_with_a_script(stack: Stack) -> Iterator[None]:
    """BUSY: somebody's script does not end, until the operator kills it."""
    with contextlib.closing(stack.redis()) as client, contextlib.closing(stack.redis()) as caller:
        client.config_set("busy-reply-threshold", 100)

        def run() -> None:
            with contextlib.suppress(redis.ResponseError):  # it is killed
                caller.eval("while true do end", 0)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        eventually(lambda: _is_busy(client), "a Redis that is busy")
        try:
            yield
        finally:
            client.script_kill()
            thread.join(10)


def _is_busy(client: "redis.Redis") -> bool:
    try:
        client.ping()
    except redis.ResponseError as error:
        return str(error).startswith("BUSY") or "busy running a script" in str(error)
    return False


@contextlib.contextmanager
def small_disk(folder: Path, *, size_bytes: int) -> Iterator[None]:
    """A file system of its own at `folder`, of this size. Fails the test if this machine does not let us mount one."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes},mode=700", "bindery-small-disk", str(folder)]
    mount = subprocess.run(command, capture_output=True, text=True, check=False)
    if mount.returncode:
        pytest.fail(f"a small disk can't be mounted, which needs root (CAP_SYS_ADMIN): {mount.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextlib.contextmanager
def full_disk(stack: Stack) -> Iterator[None]:
    """MISCONF: the append-only file can't grow, as something else fills the disk (`small_disk`)."""
    filler = stack.data_dir / "redis" / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(MIB))
    with filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:  # to the last byte
            file.write(b"0")
    try:
        with contextlib.closing(stack.redis()) as client:
            eventually(lambda: client.info("persistence")["aof_last_write_status"] == "err", "a write that fails")
        yield
    finally:
        filler.unlink()


@contextlib.contextmanager
def unreachable(stack: Stack) -> Iterator[None]:
    """Refuse all connections: Redis lives, and its keys expire, but its socket is gone."""
    with contextlib.closing(stack.redis()) as client:
        path = Path(client.connection_pool.connection_kwargs["path"])
        aside = path.with_suffix(".away")
        client.ping()
        path.rename(aside)
        client.client_kill_filter(_type="normal", skipme=True)
        client.client_kill_filter(_type="pubsub", skipme=True)
        try:
            yield
        finally:
            aside.rename(path)
