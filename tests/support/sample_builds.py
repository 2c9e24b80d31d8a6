"""Small real repositories, and builds of them in a folder of the test."""

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from pathlib import Path

from services.builder.executors.base import Attempt, Batch, Finished
from services.builder.executors.process.session.layout import BuildFolder, Exit, Layout
from services.builder.executors.process.session.session import build_image
from services.builder.executors.process.session.spec import BuildSpec, SessionSettings
from services.builder.executors.process.session.steps import Fetch
from services.common.models.build import image_key
from tests.support.paths import share_packages

QUICK = SessionSettings(base_packages=(), compiles_bytecode=False, python_downloads="never")
"""An environment without Jupyter: a build of it takes half a second."""

ATTEMPT = Attempt(
    build_id=f"{'a' * 24}-1", image="registry/image:ref", repo_url="https://example.org/repo", ref="ref", epoch=1
)
"""What an executor is asked to build, for tests that run no build."""


def make_repository(folder: Path, files: Mapping[str, str | bytes]) -> str:
    """Make a git repository with one commit of `files` and return the commit's sha."""
    folder.mkdir(parents=True)
    for name, content in files.items():
        path = folder / name
        assert path.is_relative_to(folder), name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    author = {
        "GIT_AUTHOR_NAME": "t",
        "GIT_AUTHOR_EMAIL": "t@t",
        "GIT_COMMITTER_NAME": "t",
        "GIT_COMMITTER_EMAIL": "t@t",
    }
    env = {**os.environ, **author, "GIT_CONFIG_GLOBAL": "/dev/null"}
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "--allow-empty", "-m", "one"]):
        subprocess.run(["git", *command], cwd=folder, env=env, check=True)
    process = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, check=True, capture_output=True, text=True)
    return process.stdout.strip()


async def clone(spec: BuildSpec, target: Path, on_line: Callable[[str], None]) -> None:
    """Fetch as a session does, but from a folder: the checked git takes no such address."""
    on_line("Cloning")
    for command in (
        ["clone", "-q", "--no-hardlinks", spec.repo_url, str(target)],
        ["-C", str(target), "checkout", "-q", spec.ref],
    ):
        process = await asyncio.create_subprocess_exec("git", *command)
        assert await process.wait() == 0


class BuildResult:
    """A build that has ended: how, what it said, and what it left."""

    def __init__(self, *, layout: Layout, folder: BuildFolder, outcome: Exit, lines: list[tuple[str, str]]) -> None:
        self.layout = layout
        self.folder = folder
        self.outcome = outcome
        self.lines = lines
        self.image = layout.image(folder.build_id)

    @property
    def code(self) -> str | None:
        return self.outcome.error.code if self.outcome.error else None

    @property
    def message(self) -> str:
        return self.outcome.error.message if self.outcome.error else ""

    @property
    def text(self) -> str:
        return "".join(message for _, message in self.lines)


async def build_files(tmp: Path, files: Mapping[str, str | bytes], settings: SessionSettings = QUICK) -> BuildResult:
    """Build a repository of `files` in this process, with everything real but the address it is fetched from."""
    repo = tmp / "origin"
    return await build_repository(tmp, str(repo), make_repository(repo, files), settings, fetch=clone)


async def build_repository(
    tmp: Path, repo_url: str, sha: str, settings: SessionSettings = QUICK, *, fetch: Fetch | None = None
) -> BuildResult:
    """Build a commit in this process; the checked git fetches it unless `fetch` does."""
    layout = Layout(tmp / "data")
    (tmp / "data").mkdir(exist_ok=True)
    share_packages(tmp / "data")
    image = f"image:{sha}"
    folder = layout.build(f"{image_key(image)}-1")
    folder.path.mkdir(parents=True)
    spec = BuildSpec(
        build_id=folder.build_id,
        image=image,
        repo_url=repo_url,
        ref=sha,
        data_dir=str(layout.data),
        settings=settings,
    )
    folder.spec.write_text(spec.model_dump_json())
    outcome = await build_image(folder, fetch)
    return BuildResult(layout=layout, folder=folder, outcome=outcome, lines=lines_of(folder))


def lines_of(folder: BuildFolder) -> list[tuple[str, str]]:
    """Return the whole log as (phase, message)."""
    return [(entry["phase"], entry["message"]) for entry in map(json.loads, folder.log.read_text().splitlines())]


def attempt_of(repo_url: str, ref: str, *, epoch: int = 1) -> Attempt:
    """Return the first attempt at a repository's image."""
    image = f"image:{ref}"
    return Attempt(build_id=f"{image_key(image)}-1", image=image, repo_url=repo_url, ref=ref, epoch=epoch)


async def collect(following: AsyncIterator[Batch | Finished]) -> tuple[list[str], str, Finished | None]:
    """Follow to the end; return the messages, the last position and how it ended."""
    messages: list[str] = []
    position = ""
    outcome = None
    async for news in following:
        if isinstance(news, Batch):
            messages += [line.message for line in news.lines]
            position = news.position
        else:
            outcome = news
    return messages, position, outcome


def processes_mentioning(marks: Iterable[str]) -> list[str]:
    """Return the command lines of living processes that hold one of `marks`."""
    texts = list(marks)
    lines = subprocess.run(
        ["ps", "-axo", "stat=,args="], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return [line for line in lines if any(mark in line for mark in texts) and not line.startswith("Z")]
