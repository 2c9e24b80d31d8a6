"""Running git on hostile input: without the host's configuration, hooks, prompts and secrets, and with limits."""

import asyncio
import contextlib
import os
import re
import resource
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from services.common.git.words import printable
from services.common.models.errors import BinderyError
from services.common.net.tls import roots_file

OnLine = Callable[[str], None]

_PASSED_ON = ("PATH", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_EXEC_PATH", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH")
_CONFIG = {
    "advice.detachedHead": "false",
    "core.askPass": "",
    "core.attributesFile": "/dev/null",
    "core.autocrlf": "false",
    "core.fsmonitor": "false",
    "core.fsync": "none",
    "core.hooksPath": "/dev/null",
    "core.packedGitLimit": "1g",
    "core.protectHFS": "true",
    "core.protectNTFS": "true",
    "credential.helper": "",
    "fetch.recurseSubmodules": "false",
    "fetch.unpackLimit": "1",
    "gc.auto": "0",
    "http.followRedirects": "false",
    "http.lowSpeedLimit": "1000",
    "http.lowSpeedTime": "30",
    "http.proxy": "",
    "init.defaultBranch": "main",
    "maintenance.auto": "false",
    "submodule.recurse": "false",
    "transfer.bundleURI": "false",
}
_PROGRESS_SECONDS = 2.0
_LINE_BYTES = 4096
_WATCH_SECONDS = 0.5
_ENTRY_BYTES = 1024


@dataclass(frozen=True)
class GitResult:
    """The result of a git command. `messages` is the end of its standard error."""

    status: int
    output: bytes
    messages: str

    @property
    def ok(self) -> bool:
        """Whether the command succeeded."""
        return self.status == 0

    @property
    def reason(self) -> str:
        """Last error message of git, in one line."""
        lines = [line.strip() for line in self.messages.splitlines() if line.strip()]
        fatal = [line for line in lines if line.startswith(("fatal:", "error:"))]
        return (fatal or lines or [f"git ended with status {self.status}"])[-1].removeprefix("fatal: ")[:500]


@dataclass(frozen=True, kw_only=True)
class GitRunner:
    """A way to run git: with an empty home, for certain protocols, under limits.

    `max_bytes` limits the size of `watched_folder`, where each entry counts a KiB more than its size.
    `memory_bytes` limits git's address space if the system can do that (Linux).
    """

    home: Path
    allowed_protocols: frozenset[str] = frozenset({"http", "https"})
    watched_folder: Path | None = None
    max_bytes: int = 0
    memory_bytes: int = 4 * 2**30
    max_output_bytes: int = 64 * 2**20
    on_line: OnLine | None = None

    def environment(self, config: Sequence[tuple[str, str]] = ()) -> dict[str, str]:
        """Return git's environment: our paths of programs and CA certificates, and git's whole configuration.

        Git trusts the certificates that the checked client trusts, unless a variable of git's own names others. Outside
        of a repository, git looks for one in no folder above the home.
        """
        variables = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        if "GIT_SSL_CAINFO" not in variables and (file := roots_file()):
            no_others = self.home / "no-certificates"  # else curl reads the system's too, for 50 ms of CPU
            no_others.mkdir(exist_ok=True)
            variables = {"GIT_SSL_CAPATH": str(no_others)} | variables | {"GIT_SSL_CAINFO": file}

        settings = [*_CONFIG.items(), *config]
        for number, (name, value) in enumerate(settings):
            variables |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}

        return variables | {
            "GIT_CONFIG_COUNT": str(len(settings)),
            "HOME": str(self.home),
            "XDG_CONFIG_HOME": str(self.home),
            "GIT_CEILING_DIRECTORIES": str(self.home.parent),
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_SYSTEM": "/dev/null",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "",
            "GIT_ALLOW_PROTOCOL": ":".join(sorted(self.allowed_protocols)),
            "GIT_DEFAULT_REF_FORMAT": "files",
            "LC_ALL": "C",
        }

    @property
    def spare_bytes(self) -> int:
        """How much more `watched_folder` may take; without one, what no repository needs."""
        if self.watched_folder is None:
            return sys.maxsize
        return max(0, self.max_bytes - size_of(self.watched_folder, self.max_bytes))

    @property
    def unwatched(self) -> Self:
        """The same for commands that only read: nothing is measured, and no line of theirs is shown."""
        return replace(self, watched_folder=None, on_line=None)

    async def run(
        self, *arguments: str, cwd: Path | None = None, config: Sequence[tuple[str, str]] = (), data: bytes = b""
    ) -> GitResult:
        """Run one git command and return its result; `data` is what it reads.

        A cancel kills it with every process that it started.

        Raise `BinderyError`: `repository_too_large` if `watched_folder` grows past `max_bytes`, and
        `provider_unavailable` if the output grows past `max_output_bytes`.
        """
        async with self._process(arguments, cwd, self.environment(config)) as process:
            assert process.stdin is not None  # noqa: S101 - all are pipes
            assert process.stdout is not None  # noqa: S101
            assert process.stderr is not None  # noqa: S101

            try:
                async with asyncio.TaskGroup() as group:
                    watcher = group.create_task(self._watch())
                    group.create_task(_write(process.stdin, data))
                    output, messages = await asyncio.gather(self._read(process.stdout), self._relay(process.stderr))
                    status = await process.wait()
                    watcher.cancel()
            except ExceptionGroup as errors:
                raise errors.exceptions[0] from None

        self._check_size()
        return GitResult(status, output, messages)

    @contextlib.asynccontextmanager
    async def _process(
        self, arguments: Sequence[str], cwd: Path | None, environment: dict[str, str]
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        process = await asyncio.create_subprocess_exec(
            "git",
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=cwd or self.home,
            env=environment,
            start_new_session=True,
        )

        try:
            if hasattr(resource, "prlimit"):
                with contextlib.suppress(ProcessLookupError, PermissionError, ValueError):
                    resource.prlimit(process.pid, resource.RLIMIT_AS, (self.memory_bytes, self.memory_bytes))
            yield process
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()

    async def _read(self, stream: asyncio.StreamReader) -> bytes:
        output = bytearray()
        while chunk := await stream.read(65536):
            output += chunk
            if len(output) > self.max_output_bytes:
                raise BinderyError("provider_unavailable", "The repository answers with more than can be read.")
        return bytes(output)

    async def _relay(self, stream: asyncio.StreamReader) -> str:
        """Pass lines to `on_line` as they arrive and return the last 8 KiB; of a progress line, one state every 2 s."""
        last_lines = ""
        rest = b""
        shown_at = 0.0

        while chunk := await stream.read(65536):
            *lines, rest = re.split(rb"(?<=[\r\n])", rest + chunk)
            if len(rest) > _LINE_BYTES:
                lines.append(rest)
                rest = b""

            for line in lines:
                text = _plain_text(line)
                now = time.monotonic()
                if not text or (line.endswith(b"\r") and now - shown_at < _PROGRESS_SECONDS):
                    continue

                if line.endswith(b"\r"):
                    shown_at = now
                last_lines = f"{last_lines}{text}\n"[-8192:]
                if self.on_line:
                    self.on_line(text)

        if text := _plain_text(rest):
            last_lines += f"{text}\n"
            if self.on_line:
                self.on_line(text)
        return last_lines

    async def _watch(self) -> None:
        while self.watched_folder is not None:
            await asyncio.sleep(_WATCH_SECONDS)
            await asyncio.to_thread(self._check_size)

    def _check_size(self) -> None:
        if self.watched_folder is not None and size_of(self.watched_folder, self.max_bytes) > self.max_bytes:
            limit = self.max_bytes // 2**20
            raise BinderyError("repository_too_large", f"The repository is larger than the {limit} MiB allowed here.")


async def _write(stream: asyncio.StreamWriter, data: bytes) -> None:
    """Write `data`, and then the end, for a process that may read it or not."""
    with contextlib.suppress(ConnectionError):
        stream.write(data)
        await stream.drain()
    stream.close()


def _plain_text(line: bytes) -> str:
    """Return a line as plain text; unprintable characters, such as terminal escapes, become question marks."""
    text = line[:_LINE_BYTES].decode("utf-8", "replace").strip("\r\n").rstrip().expandtabs(4)
    return printable(text)


def size_of(folder: Path, enough: int) -> int:
    """Return the bytes under `folder`, plus a KiB for each entry; stop above `enough`. Links are not followed."""
    total = 0
    folders = [str(folder)]
    while folders and total <= enough:
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    total += entry.stat(follow_symlinks=False).st_size + _ENTRY_BYTES
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
    return total
