"""Bare git repositories for tests, written by `git fast-import`: no working trees, no configuration of the host."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

COMMITTER = "A Tester <tester@example.org>"


@dataclass(frozen=True)
class Link:
    """A symbolic link in a commit."""

    target: str


@dataclass(frozen=True)
class Executable:
    """An executable file in a commit, whatever it begins with."""

    content: str


@dataclass(frozen=True)
class Gitlink:
    """A submodule's place in a commit."""

    sha: str


Content = str | bytes | Link | Executable | Gitlink | None
"""What a commit has at a path; None deletes it. Files that begin with `#!` are executable."""


def git_environment(root: Path) -> dict[str, str]:
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(root),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "safe.directory",
        "GIT_CONFIG_VALUE_0": "*",
    }


class BareRepos:
    """The repositories `<root>/<org>/<name>.git`."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.root.mkdir(parents=True, exist_ok=True)

    def folder(self, org: str, name: str) -> Path:
        return self.root / org / f"{name}.git"

    def git(self, org: str, name: str, *arguments: str, data: bytes | None = None, check: bool = True) -> str:
        """Run git in a repository; its output without the last line's end."""
        process = subprocess.run(
            ["git", "-C", str(self.folder(org, name)), *arguments],
            input=data,
            capture_output=True,
            check=False,
            env=git_environment(self.root),
        )
        if check and process.returncode:
            raise RuntimeError(process.stderr.decode())
        return process.stdout.decode("utf-8", "replace").strip() if not process.returncode else ""

    def create_repo(
        self, org: str, name: str, files: Mapping[str, Content], *, branch: str = "main", object_format: str = "sha1"
    ) -> str:
        """Make a repository with one commit, whose sha is returned; with no files it stays empty."""
        folder = self.folder(org, name)
        folder.mkdir(parents=True)
        self.git(org, name, "init", "--quiet", "--bare", "--template=", "--initial-branch", branch,
                 f"--object-format={object_format}", ".")  # fmt: skip
        return self.commit(org, name, files, branch=branch) if files else ""

    def commit(
        self, org: str, name: str, files: Mapping[str, Content], *, branch: str = "main", message: str = "A change"
    ) -> str:
        """Commit changed files onto `branch` (made from nothing if there is none) and return the sha."""
        parent = self.git(org, name, "rev-parse", "--verify", "--quiet", f"refs/heads/{branch}", check=False)
        when = 1_600_000_000 + (int(self.git(org, name, "rev-list", "--count", "--all")) if parent else 0)
        stream = [f"commit refs/heads/{branch}\ncommitter {COMMITTER} {when} +0000\n".encode(), _data(message.encode())]
        if parent:
            stream.append(f"from {parent}\n".encode())
        stream += [_change(path, content) for path, content in files.items()]
        self.git(org, name, "fast-import", "--quiet", data=b"".join(stream) + b"\n")
        return self.git(org, name, "rev-parse", f"refs/heads/{branch}")

    def tag(self, org: str, name: str, tag: str, sha: str, *, annotated: bool = False) -> str:
        """Tag a commit; returns what the tag's ref holds (an annotated tag's own sha)."""
        if annotated:
            body = f"object {sha}\ntype commit\ntag {tag}\ntagger {COMMITTER} 1600000000 +0000\n\n{tag}\n"
            sha = self.git(org, name, "mktag", data=body.encode())
        self.ref(org, name, f"refs/tags/{tag}", sha)
        return sha

    def ref(self, org: str, name: str, ref: str, sha: str) -> None:
        """Point a full ref name at a commit."""
        self.git(org, name, "update-ref", ref, sha)

    def add_folder(self, org: str, name: str, folder: Path) -> str:
        """Make a repository of a folder's files."""
        files: dict[str, Content] = {
            str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file() and ".git" not in path.parts
        }
        shutil.rmtree(self.folder(org, name), ignore_errors=True)
        return self.create_repo(org, name, files)

    def find(self, org: str, name: str, ref: str) -> tuple[str, str] | None:
        """(commit, tree) of a branch, a tag, a full name, HEAD or a sha; None if there is none."""
        for full in (f"refs/heads/{ref}", f"refs/tags/{ref}", ref):
            is_sha = len(ref) >= 7 and set(ref.lower()) <= set("0123456789abcdef")
            if full == ref and ref != "HEAD" and not is_sha and not ref.startswith("refs/"):
                continue
            sha = self.git(org, name, "rev-parse", "--verify", "--quiet", f"{full}^{{commit}}", check=False)
            if sha:
                return sha, self.git(org, name, "rev-parse", f"{sha}^{{tree}}")
        return None


def _data(content: bytes) -> bytes:
    return b"data %d\n" % len(content) + content + b"\n"


def _change(path: str, content: Content) -> bytes:
    quoted = '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if content is None:
        return f"D {quoted}\n".encode(errors="surrogateescape")
    if isinstance(content, Gitlink):
        return f"M 160000 {content.sha} {quoted}\n".encode(errors="surrogateescape")
    if isinstance(content, Link):
        return f"M 120000 inline {quoted}\n".encode(errors="surrogateescape") + _data(content.target.encode())
    text = content.content if isinstance(content, Executable) else content
    data = text.encode() if isinstance(text, str) else text
    mode = "100755" if isinstance(content, Executable) or data.startswith(b"#!") else "100644"
    return f"M {mode} inline {quoted}\n".encode(errors="surrogateescape") + _data(data)
