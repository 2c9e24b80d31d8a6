"""The commands of a page of docs/, typed one after another as its reader types them."""

import os
import re
import signal
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import yaml

from tests.support.bare_repos import git_environment
from tests.support.paths import CHECKOUT
from tests.support.polling import eventually

_FENCE = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)
_NOT_A_READERS = ("BINDERY_", "GIT_", "PYTEST_", "PYTHON", "VIRTUAL_ENV", "COV_", "MAKE", "MFLAGS")
_KEPT = ("GIT_SSL_",)


def section(page: str, heading: str) -> str:
    """Return the text of a page of docs/ below a heading, up to the next one of the same level or a higher."""
    text = (CHECKOUT / "docs" / page).read_text(encoding="utf-8")
    _, found, below = text.partition(f"\n{heading}\n")
    assert found, f"{page} has no heading {heading!r}"
    level = len(heading.split()[0])
    return re.split(rf"^#{{1,{level}}} ", below, maxsplit=1, flags=re.MULTILINE)[0]


def blocks(text: str, language: str = "sh") -> list[str]:
    """Return the blocks of a language in a page's text, as they are."""
    return [block for named, block in _FENCE.findall(text) if named == language]


def commands(text: str) -> list[str]:
    """Return the commands in the blocks `sh` of a page's text; one that goes on in the next line is one command."""
    lines = "".join(blocks(text)).replace("\\\n", "").splitlines()
    return [line for line in lines if line.strip()]


def commands_block(page: str, heading: str) -> str:
    """Return all commands of a page of docs/ below a heading, as one script."""
    return "".join(blocks(section(page, heading)))


def values_shown(page: str, key: str) -> dict[str, Any]:
    """Return the one block `yaml` of a page of docs/ that has a key, at the top or below."""
    text = (CHECKOUT / "docs" / page).read_text(encoding="utf-8")
    [found] = [block for block in blocks(text, "yaml") if f"{key}:" in block]
    values: dict[str, Any] = yaml.safe_load(found)
    return values


def readers_environment() -> dict[str, str]:
    """Return this process' environment without what the tests, or a checkout's Python, have put there."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_NOT_A_READERS) or name.startswith(_KEPT)
    } | {"PATH": os.pathsep.join(part for part in os.get_exec_path() if not part.startswith(str(CHECKOUT)))}


def bare_clone(folder: Path) -> Path:
    """Return a bare repository in `folder` whose branch `main` is what is checked out here."""
    bare = folder / "bindery.git"

    def git(*arguments: str | Path) -> str:
        return subprocess.run(
            ["git", *arguments], env=git_environment(folder), check=True, capture_output=True, text=True
        ).stdout.strip()  # fmt: skip

    git("clone", "--quiet", "--bare", CHECKOUT, bare)
    git("-C", bare, "update-ref", "refs/heads/main", git("-C", CHECKOUT, "rev-parse", "HEAD"))
    git("-C", bare, "symbolic-ref", "HEAD", "refs/heads/main")
    return bare


@dataclass
class Terminal:
    """A shell's folder and variables, from one command to the next."""

    folder: Path
    environ: dict[str, str] = field(default_factory=readers_environment)

    def type(self, command: str, *, seconds: float = 600, stdin: str = "") -> str:
        """Run a command, and return its standard output. Fails the test, with all that it said, if it fails."""
        with Background.start(command, self) as running:
            output = running.until_ended(seconds, stdin)
        self._remember(command)
        return output

    def _remember(self, command: str) -> None:
        word, _, rest = command.partition(" ")
        if word == "cd":
            self.folder = (self.folder / rest).resolve()
        elif word == "export" or re.match(r"\w+=", command):
            assignment = rest if word == "export" else command
            name = assignment.partition("=")[0]
            shell = ["bash", "-c", f'{assignment}; printf %s "${name}"']
            printed = subprocess.run(
                shell, cwd=self.folder, env=self.environ, check=True, capture_output=True, text=True
            )  # fmt: skip
            self.environ[name] = printed.stdout


@dataclass(kw_only=True)
class Background:
    """A command that runs, in a process group of its own, and what it has said."""

    command: str
    process: subprocess.Popen[str]
    output: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @classmethod
    def start(cls, command: str, terminal: Terminal, environ: Mapping[str, str] | None = None) -> Self:
        process = subprocess.Popen(
            ["bash", "-c", command], cwd=terminal.folder, env=terminal.environ | dict(environ or {}), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        running = cls(command=command, process=process)
        running._readers = [
            threading.Thread(target=lines.extend, args=(stream,), daemon=True)
            for lines, stream in ((running.output, process.stdout), (running.errors, process.stderr))
        ]
        for reader in running._readers:
            reader.start()
        return running

    def __post_init__(self) -> None:
        self._readers: list[threading.Thread] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End it with all that it started, if it still runs."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        for reader in self._readers:
            reader.join(10)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream:
                stream.close()

    @property
    def said(self) -> str:
        """Everything that it has printed so far."""
        return "".join([*self.output, *self.errors])

    def until_says(self, words: str, seconds: float) -> str:
        """Wait for a line of its standard output with these words, and return that line."""

        def line() -> str | None:
            has_ended = self.process.poll() is not None
            found = next((line for line in [*self.output, *self.errors] if words in line), None)
            assert found or not has_ended, f"{self.command} has ended:\n{self.said}"
            return found

        return str(eventually(line, f"{self.command} says {words!r}", seconds))

    def until_ended(self, seconds: float, stdin: str = "") -> str:
        """Wait until it has ended well, and return its standard output."""
        assert self.process.stdin
        self.process.stdin.write(stdin)
        self.process.stdin.close()
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.command} has not ended within {seconds:g} s:\n{self.said}") from None
        for reader in self._readers:
            reader.join(10)
        assert status == 0, f"{self.command} ended with {status}:\n{self.said}"
        return "".join(self.output)
