"""Running a program of a build in a session of its own, within a deadline, with its output in the log."""

import asyncio
import errno
import os
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from services.builder.executors.process.session.environment import RUN_VARIABLE
from services.builder.executors.process.session.errors import StepError, build_failed
from services.builder.executors.process.session.log import BuildLog
from services.builder.executors.process.session.output import OutputLines
from services.builder.executors.process.session.processes import end_all, identify

READ_ONCE_FILE = "<file>"
"""Stands in a command for the path of the file that holds `secret`."""
_CHUNK_BYTES = 2**16
_DRAIN_SECONDS = 5


async def run_program(
    command: Sequence[str],
    *,
    name: str,
    log: BuildLog,
    env: Mapping[str, str],
    cwd: Path,
    timeout_seconds: float,
    max_line_bytes: int,
    secret: str = "",
) -> int:
    """Run a program to its end and return its exit status; a negative one is the signal that ended it.

    `name` is what the log calls it. Processes that it leaves running are killed: `BINDERY_RUN` in `env` tells them from
    others. `secret` is for the program alone: `READ_ONCE_FILE` in its arguments becomes the path of a file that can be
    read once, which is empty for its children.

    Raise `StepError` `build_timeout` after `timeout_seconds`, and `OSError` if it can't be started.
    """
    # A pipe of our own: asyncio's `wait` would otherwise wait for each process that holds the pipe, daemons too.
    readable, writable = os.pipe()
    with open(readable, "rb", buffering=0) as output, open(writable, "wb", buffering=0) as theirs:  # noqa: ASYNC230, PTH123 - descriptors of a pipe, not files
        with _read_once(secret) as source:
            process = await asyncio.create_subprocess_exec(
                *(f"/dev/fd/{source}" if argument == READ_ONCE_FILE else argument for argument in command),
                stdin=DEVNULL,
                stdout=theirs,
                stderr=STDOUT,
                env=dict(env),
                cwd=cwd,
                pass_fds=[source] if secret else [],
                start_new_session=True,
            )

        theirs.close()
        return await _supervise(
            process,
            output,
            name=name,
            log=log,
            run=env[RUN_VARIABLE],
            timeout_seconds=timeout_seconds,
            max_line_bytes=max_line_bytes,
        )


def require_success(name: str, status: int) -> None:
    """Raise `StepError` `build_failed` if `status` tells that a program failed; `name` is what the log calls it."""
    if status > 0:
        raise build_failed(f"{name} ended with exit status {status}")
    if status < 0:
        raise build_failed(f"{name} was ended by signal {-status}")


@contextmanager
def _read_once(text: str) -> Iterator[int]:
    """Yield a file descriptor that gives `text` to its first reader and nothing to the next.

    Raise `OSError` if `text` is more than a pipe takes: 64 KiB, or 16 KiB on macOS.
    """
    source, sink = os.pipe()
    with open(source, "rb", buffering=0), open(sink, "wb", buffering=0) as writing:  # noqa: PTH123 - descriptors, not paths
        os.set_blocking(sink, False)
        content = text.encode()
        if writing.write(content) != len(content):
            raise OSError(errno.EMSGSIZE, "The configuration of a program is too long to be handed over")
        writing.close()
        yield source


async def _supervise(
    process: Process,
    output: IO[bytes],
    *,
    name: str,
    log: BuildLog,
    run: str,
    timeout_seconds: float,
    max_line_bytes: int,
) -> int:
    relaying = asyncio.create_task(_relay(output, OutputLines(log, max_line_bytes=max_line_bytes)))

    try:
        async with asyncio.timeout(timeout_seconds):
            status = await process.wait()
    except TimeoutError:
        message = f"{name} did not end within {timeout_seconds:g} seconds and was killed"
        raise StepError("build_timeout", message) from None
    finally:
        leader = identify(process.pid) if process.returncode is None else None
        await asyncio.to_thread(end_all, [leader] if leader else [], run)
        await asyncio.wait([relaying], timeout=_DRAIN_SECONDS)
        relaying.cancel()
    return status


async def _relay(output: IO[bytes], lines: OutputLines) -> None:
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), output
    )

    try:
        while chunk := await reader.read(_CHUNK_BYTES):
            lines.feed(chunk)
        lines.close()
    finally:
        transport.close()


async def output_of(command: Sequence[str], *, env: Mapping[str, str], timeout_seconds: float) -> str | None:
    """Return the standard output of a program; None if it fails or takes too long."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL, env=dict(env), start_new_session=True
    )

    try:
        async with asyncio.timeout(timeout_seconds):
            printed, _ = await process.communicate()
    except TimeoutError:
        return None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

    return printed.decode("utf-8", "replace") if process.returncode == 0 else None
