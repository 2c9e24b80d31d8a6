"""The process executor: each build is a session on this machine that writes files and outlives its worker."""

import asyncio
import fcntl
import json
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from services.builder.executors.base import Attempt, Batch, Execution, ExecutionVanishedError, Finished, Line
from services.builder.executors.process.session import process_records
from services.builder.executors.process.session.archives.listings import LISTINGS
from services.builder.executors.process.session.layout import (
    BuildFolder,
    Exit,
    ExitError,
    Layout,
    remove_tree,
    write_atomically,
)
from services.builder.executors.process.session.processes import end_all
from services.builder.executors.process.session.spec import BuildSpec, SessionSettings
from services.builder.executors.process.sessions import Sessions
from services.common.models.errors import BinderyError
from services.common.net.proxy import OutboundProxy

_BATCH_BYTES = 64 * 1024
_BATCH_SECONDS = 0.05
_LOCK_SECONDS = 10.0
_EXIT_SECONDS = 10.0
_EXIT_POLL_SECONDS = 0.01


class ProcessExecutor:
    """Runs builds as sessions whose files lie under the data folder; a position is an offset in a log, in bytes."""

    def __init__(self, data_dir: Path, settings: SessionSettings, proxy: OutboundProxy | None = None) -> None:
        self._layout = Layout(data_dir)
        self._settings = settings
        self._sessions = Sessions(proxy.environment if proxy else {})

    async def prepare(self) -> None:
        """Start the server that sessions are forked from, so that the first build does not wait for it."""
        await asyncio.to_thread(self._sessions.prepare)

    async def ensure(self, attempt: Attempt) -> None:
        """Start the session of the attempt's run, unless it was started before.

        A session that was killed is not started again: its run has vanished. Raise
        `BinderyError("unsupported_repository")` for what is neither a git repository nor in an archive.
        """
        if attempt.content_provider not in {"Git", *LISTINGS}:
            raise BinderyError(
                "unsupported_repository",
                "The process executor fetches git repositories and datasets of archives, not what "
                f"{attempt.content_provider} has: launch the same content from a git repository. The kubernetes and "
                "docker executors can build it.",
            )
        await asyncio.to_thread(self._ensure, attempt)

    def _ensure(self, attempt: Attempt) -> None:
        folder = self._layout.build(attempt.build_id)
        folder.path.mkdir(parents=True, exist_ok=True)

        with _exclusive(folder):
            _raise_epoch(folder, attempt.epoch)
            self._begin_run(folder, attempt.run)

            # A run that is started twice would write its log twice. If its session vanished, the next run says so.
            was_started = folder.session() is not None
            if was_started or folder.exit() is not None:
                return

            lock = folder.take_lock()
            if lock is None:
                return

            # The session inherits the lock, already taken: there is no moment at which it lives without it.
            with lock:
                ended_meanwhile = folder.exit() is not None
                if not ended_meanwhile:
                    self._start(attempt, folder, lock.fileno())

    def _begin_run(self, folder: BuildFolder, run: int) -> None:
        """Set the log of a vanished run aside: positions count from the beginning of the current run's log."""
        current_run = _number(folder.run.read_text()) if folder.run.exists() else 1
        if run <= current_run or folder.is_alive or folder.exit() is not None:
            return

        if folder.log.exists():
            folder.log.rename(folder.log.with_suffix(f".{current_run}"))
        if dead := folder.session():
            process_records.withdraw(self._layout, dead)
            folder.session_path.unlink()
        write_atomically(folder.run, str(run))

    def _start(self, attempt: Attempt, folder: BuildFolder, lock_fd: int) -> None:
        spec = BuildSpec(
            build_id=attempt.build_id,
            image=attempt.image,
            repo_url=attempt.repo_url,
            ref=attempt.ref,
            content_provider=attempt.content_provider,
            data_dir=str(self._layout.data),
            settings=self._settings,
        )
        write_atomically(folder.spec, spec.model_dump_json())
        folder.leave_credential(attempt.credential)

        self._sessions.start(folder, lock_fd)

    async def follow(self, attempt: Attempt, position: str) -> AsyncIterator[Batch | Finished]:
        """Yield the log from a byte offset on, in batches of 50 ms or 64 KiB, and how the build ended.

        Raise `ExecutionVanishedError` if the session is gone and has not said how it ended.
        """
        folder = self._layout.build(attempt.build_id)
        offset = _number(position)

        while True:
            # Read before the log, so that the log is complete if the build has ended.
            outcome = folder.exit()
            is_alive = folder.is_alive

            while lines := await asyncio.to_thread(_read_lines, folder.log, offset):
                offset += sum(len(line) for line in lines)
                yield Batch(tuple(_line(line) for line in lines), str(offset))

            if outcome:
                await asyncio.to_thread(self._reap, folder)
                error = outcome.error
                yield Finished(outcome.ok, error.code if error else None, error.message if error else None)
                return
            if not is_alive and folder.exit() is None:
                await asyncio.to_thread(self._reap, folder)
                raise ExecutionVanishedError(attempt.build_id)
            await asyncio.sleep(_BATCH_SECONDS)

    async def stop(self, attempt: Attempt) -> None:
        """Kill the attempt's session and all that it started.

        The attempt ends as `cancelled`, unless it had ended before.
        """
        await asyncio.to_thread(self._stop, attempt)

    def _stop(self, attempt: Attempt) -> None:
        folder = self._layout.build(attempt.build_id)
        if not folder.path.is_dir():
            return

        image = self._layout.image(attempt.build_id)
        with _exclusive(folder):
            if attempt.epoch < _epoch(folder):
                return  # another worker owns the build by now

            session = folder.session()
            if folder.exit() is None:
                end_all([session] if session else [], str(folder.home))
            if folder.exit() is None:  # it may have ended by itself while it was being killed
                error = ExitError(code="cancelled", message="The build was cancelled")
                write_atomically(folder.exit_path, Exit(ok=False, error=error).model_dump_json())
            # A session that was slow to start records itself, and only then looks whether its build has ended.
            if session is None and (late := folder.session()):
                end_all([late], str(folder.home))
            if image.manifest() is None:
                image.remove()

        self._reap(folder)

    async def list(self, image_key: str = "") -> Sequence[Execution]:
        """Return the builds that have a folder; remove the process records of sessions that have ended."""
        return await asyncio.to_thread(self._list, image_key)

    def _list(self, image_key: str) -> Sequence[Execution]:
        if not self._layout.builds.is_dir():
            return []

        folders = [BuildFolder(path) for path in self._layout.builds.glob(f"{image_key}*") if path.is_dir()]
        executions = [Execution(folder.build_id, _epoch(folder), folder.is_alive) for folder in folders]
        for execution, folder in zip(executions, folders, strict=True):
            if not execution.is_alive:
                self._reap(folder)
        return executions

    async def remove(self, build_id: str) -> None:
        """Remove the folder of a build that has ended and whose log is stored elsewhere; a living build stays."""
        folder = self._layout.build(build_id)
        if folder.path.is_dir() and not folder.is_alive:
            await asyncio.to_thread(self._reap, folder)
            await asyncio.to_thread(remove_tree, folder.path)

    async def aclose(self) -> None:
        """End the server that sessions are forked from; they go on."""
        await asyncio.to_thread(self._sessions.close)

    async def health_problem(self) -> str | None:
        """Return None: the check of the images' folder covers each failure of this executor."""
        return None

    def _reap(self, folder: BuildFolder) -> None:
        """Withdraw the record of a session that has ended: it may live for a moment after it has written its exit."""
        session = folder.session()
        if session is None:
            return

        deadline = time.monotonic() + _EXIT_SECONDS
        while session.is_alive and time.monotonic() < deadline:
            time.sleep(_EXIT_POLL_SECONDS)
        if not session.is_alive:
            process_records.withdraw(self._layout, session)


@contextmanager
def _exclusive(folder: BuildFolder) -> Iterator[None]:
    """Hold the lock under which the workers of this machine start and stop a build.

    Raise `ExecutionVanishedError` if another worker holds it for long: that worker was stopped in the middle of a
    start or stop, and the build with it.
    """
    deadline = time.monotonic() + _LOCK_SECONDS
    with folder.ensure_lock_path.open("a") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ExecutionVanishedError(f"{folder.path.name} is held by another worker") from None
                time.sleep(_BATCH_SECONDS)
        yield


def _epoch(folder: BuildFolder) -> int:
    try:
        return _number(folder.epoch.read_text())
    except OSError:
        return 0


def _number(text: str) -> int:
    """Return a number that this executor has written; 0 for any other text."""
    return int(text) if text.isascii() and text.isdigit() else 0


def _raise_epoch(folder: BuildFolder, epoch: int) -> None:
    if epoch > _epoch(folder):
        write_atomically(folder.epoch, str(epoch))


def _read_lines(path: Path, offset: int) -> list[bytes]:
    """Return about a batch of whole lines from `offset` on; a line longer than a batch comes alone."""
    try:
        with path.open("rb") as log:
            log.seek(offset)
            content = log.read(_BATCH_BYTES)
            if b"\n" not in content:
                content += log.readline()
    except FileNotFoundError:
        return []
    return [line + b"\n" for line in content.split(b"\n")[:-1]]


def _line(raw: bytes) -> Line:
    try:
        entry = json.loads(raw)
        return Line(str(entry["phase"]), str(entry["message"]))
    except (ValueError, KeyError, TypeError):
        return Line("building", raw.decode("utf-8", "replace"))
