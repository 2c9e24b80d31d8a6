"""The process that is a build: `python -m services.builder.executors.process.session <build folder>`.

A worker starts it, and it outlives the worker. It holds the folder's lock while it lives, writes a log, and at its end
writes `exit.json`. What it builds counts as an image only once it is finished.
"""

import argparse
import asyncio
import os
import signal
import sys
import traceback
from functools import partial
from pathlib import Path
from typing import IO

from services.builder.executors.process.session import process_records
from services.builder.executors.process.session.errors import StepError
from services.builder.executors.process.session.image_runtime.overlays import (
    OverlaysRefusedError,
    try_overlays,
    unshare_mounts,
)
from services.builder.executors.process.session.indexes import read_indexes
from services.builder.executors.process.session.layout import (
    BuildFolder,
    Exit,
    ExitError,
    Layout,
    remove_tree,
    write_atomically,
)
from services.builder.executors.process.session.log import BuildLog
from services.builder.executors.process.session.processes import end_all
from services.builder.executors.process.session.spec import BuildSpec
from services.builder.executors.process.session.steps import BuildSteps, Fetch
from services.builder.executors.process.session.upkeep import upkeep
from services.builder.executors.redaction import Redaction
from services.common.net.proxy import OutboundProxy


async def build_image(folder: BuildFolder, fetch: Fetch | None = None, *, overlays_refused: str = "overlays") -> Exit:
    """Build by the folder's spec, and record the outcome.

    `overlays_refused` is empty in a process that has overlays. Tests replace the checked git by `fetch`.
    """
    spec = _spec(folder)
    settings = spec.settings

    proxy = OutboundProxy.of_environment(os.environ)
    credential = folder.take_credential()
    secrets = [*read_indexes(os.environ).secrets, proxy.password if proxy else ""]
    redact = Redaction([*secrets, *(credential.secrets if credential else ())])
    log = BuildLog(
        folder.log,
        max_line_bytes=settings.max_line_bytes,
        max_log_bytes=settings.max_log_bytes,
        progress_seconds=settings.progress_seconds,
        redact=redact,
    )
    layout = Layout(Path(spec.data_dir))
    image = layout.image(spec.build_id)

    try:
        if fetch is None:
            from services.builder.executors.process.session.fetching import fetch as checked_fetch

            fetch = partial(checked_fetch, credential=credential)
        if image.manifest() is None:  # else an earlier session was killed after its last step
            await BuildSteps(
                spec=spec, log=log, fetch=fetch, environ=dict(os.environ), overlays_refused=overlays_refused
            ).run()
        outcome = Exit(ok=True)
    except StepError as error:
        outcome = Exit(ok=False, error=ExitError(code=error.code, message=redact(error.message)))
    except Exception as error:  # noqa: BLE001 -- the worker has to report each error, whatever it is
        message = redact(f"{type(error).__name__}: {error}")
        outcome = Exit(ok=False, error=ExitError(code="internal", message=message))

    if outcome.error:
        log.write("failed", outcome.error.message)
        end_all([], str(folder.home))
        image.remove()

    log.close()
    write_atomically(folder.exit_path, outcome.model_dump_json())
    return outcome


def _overlays_refused(folder: BuildFolder) -> str:
    """Give this process overlays, before it has a second thread. Return why it has none, or an empty text."""
    if not _spec(folder).settings.uses_overlays:
        return "overlays by its settings"
    probe = folder.path / "overlays"
    try:
        unshare_mounts()
        try_overlays(probe)
    except OverlaysRefusedError as error:
        return str(error)
    finally:
        remove_tree(probe)
    return ""


def main(arguments: list[str]) -> int:
    """Run a session. Return 0 whatever becomes of the build, and 1 if another session has the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--lock-fd", type=int, help="the folder's lock, taken by the worker that starts the session")
    parser.add_argument("--started-fd", type=int, help="a pipe that gets a byte once the session has a record")
    options = parser.parse_args(arguments)
    folder = BuildFolder(options.folder.absolute())

    lock = folder.take_lock() if options.lock_fd is None else _open_own(options.lock_fd)
    if lock is None:
        sys.stderr.write("another session builds in this folder\n")
        return 1

    # Neither Ctrl-C nor a closed terminal stops a build; the worker stops it by name.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    with lock:
        process_records.write_session(folder, Layout(Path(_spec(folder).data_dir)))
        if options.started_fd is not None:
            with _open_own(options.started_fd) as started:
                started.write("1")
        # Only now: who cancels a build looks for its process first, and then says so.
        if folder.exit() is None:
            outcome = asyncio.run(build_image(folder, overlays_refused=_overlays_refused(folder)))
            if outcome.ok:
                _leave_upkeep(folder, lock)
    return 0


def _leave_upkeep(folder: BuildFolder, lock: IO[str]) -> None:
    """Do by a process of its own what can wait: with the end of this one the build has ended."""
    if os.fork() != 0:
        return
    try:
        lock.close()
        os.setsid()
        spec = _spec(folder)
        layout = Layout(Path(spec.data_dir))
        with process_records.recorded(layout, f"upkeep after build {folder.build_id}"):
            upkeep(layout, layout.image(folder.build_id), spec.settings)
    except BaseException:  # noqa: BLE001 -- it is the last one who can say it
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(0)


def _open_own(descriptor: int) -> IO[str]:
    """Open a descriptor that was handed to us, and that no child gets."""
    os.set_inheritable(descriptor, False)
    return os.fdopen(descriptor, "a")


def _spec(folder: BuildFolder) -> BuildSpec:
    return BuildSpec.model_validate_json(folder.spec.read_bytes())
