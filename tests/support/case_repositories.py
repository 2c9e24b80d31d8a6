"""Git repositories made of the cases' folders by git itself, so that modes, links and names are those of the folder."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.bare_repos import COMMITTER, git_environment
from tests.support.cases import NOT_COMMITTED, Case
from tests.support.forge import Forge, Page
from tests.support.lfs_objects import LfsObjects
from tests.support.wheels import wheel, wheel_name

ORG = "cases"


@dataclass(frozen=True, kw_only=True)
class CaseRepository:
    """A repository of a case, which the forge serves."""

    case: Case
    forge: Forge
    folder: Path
    """An empty folder to work in."""
    variables: Mapping[str, str]
    """What stands for `@NAME@` in every text."""

    @property
    def url(self) -> str:
        return f"{self.forge.url}/{ORG}/{self.case.name}"

    def make(self) -> None:
        """Make the repository, its submodules and its package index."""
        options = self.case.options
        for path in sorted(self.case.folder.iterdir()):
            if path.name not in NOT_COMMITTED:
                self._copy(path)
        for requirement in options.wheels:
            self._write(Path("wheels"), requirement)
        self._serve_index()

        self._init(self.folder, options.branch, options.object_format)
        for tag in options.history:
            self._commit(self.folder, f"Before {self.case.name}")
            if tag:
                self._git(self.folder, "tag", "--annotate", "--message", tag, tag)
        for name in (*options.submodules, *options.repositories):
            self._set_apart(name, is_submodule=name in options.submodules)
        for name in options.lfs:
            self._keep_apart(self.folder / name)
        self._git(self.folder, "add", "--all", "--force")
        self._commit(self.folder, self.case.name)
        self._publish(self.folder, self.case.name)

    def commit_again(self) -> None:
        """Make another commit with the same files."""
        self._commit(self.folder, "The same again")
        self._publish(self.folder, self.case.name)

    def filled(self, content: bytes) -> bytes:
        """Return a text with the values of its variables; what is no text stays as it is."""
        for name, value in self._all_variables.items():
            content = content.replace(f"@{name}@".encode(), value.encode())
        return content

    @property
    def _all_variables(self) -> dict[str, str]:
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        own = {"PYTHON": python, "GIT": f"{self.forge.url}/{ORG}", "INDEX": f"{self.forge.url}{self._index}/"}
        return {**own, **self.variables}

    @property
    def _index(self) -> str:
        return f"/index/{self.case.name}"

    def _copy(self, source: Path) -> None:
        target = self.folder / source.name
        if source.is_dir() and not source.is_symlink():
            shutil.copytree(source, target, symlinks=True)
        else:
            shutil.copy2(source, target, follow_symlinks=False)
        for path in [target, *target.rglob("*")]:
            if path.is_file() and not path.is_symlink():
                path.write_bytes(self.filled(path.read_bytes()))

    def _write(self, folder: Path, requirement: str) -> None:
        name, _, version = requirement.partition("==")
        (self.folder / folder).mkdir(exist_ok=True)
        (self.folder / folder / wheel_name(name, version)).write_bytes(wheel(name, version))

    def _serve_index(self) -> None:
        links: dict[str, list[str]] = {}
        for requirement in self.case.options.index:
            name, _, version = requirement.partition("==")
            file = wheel_name(name, version)
            self.forge.pages[f"{self._index}/{name}/{file}"] = Page(body=wheel(name, version))
            links.setdefault(name, []).append(f'<a href="{file}">{file}</a>')
        for name, entries in links.items():
            body = "\n".join(entries).encode()
            self.forge.pages[f"{self._index}/{name}/"] = Page(headers={"Content-Type": "text/html"}, body=body)

    def _set_apart(self, name: str, *, is_submodule: bool) -> None:
        """Make a repository of a folder; a submodule's commit takes the folder's place."""
        source = self.folder / name
        self._init(source, "main", self.case.options.object_format)
        self._git(source, "add", "--all", "--force")
        self._commit(source, name)
        self._publish(source, f"{self.case.name}.{name}")
        sha = self._git(source, "rev-parse", "HEAD")
        shutil.rmtree(source)
        if is_submodule:
            self._git(self.folder, "update-index", "--add", "--cacheinfo", f"160000,{sha},{name}")
            source.mkdir()  # or `git add` would take the link away

    def _keep_apart(self, file: Path) -> None:
        """Put a pointer in a file's place, and its content into the forge's Git LFS."""
        self.forge.lfs = self.forge.lfs or LfsObjects()
        file.write_text(self.forge.lfs.add(file.read_bytes()))

    def _init(self, folder: Path, branch: str, object_format: str) -> None:
        options = ["--quiet", "--template=", f"--initial-branch={branch}", f"--object-format={object_format}"]
        self._git(folder, "init", *options)

    def _commit(self, folder: Path, message: str) -> None:
        self._git(folder, "commit", "--quiet", "--allow-empty", "--message", message)

    def _publish(self, folder: Path, name: str) -> None:
        target = self.forge.folder(ORG, name)
        if not target.exists():
            self._git(folder, "clone", "--quiet", "--mirror", str(folder), str(target))
        self._git(folder, "push", "--quiet", "--mirror", str(target))

    def _git(self, folder: Path, *arguments: str) -> str:
        """Run git and return what it prints. Raise `RuntimeError` with its words if it fails."""
        name, _, address = COMMITTER.partition(" <")
        author = {"NAME": name, "EMAIL": address.rstrip(">"), "DATE": "1600000000 +0000"}
        environ = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in author.items()}
        process = subprocess.run(
            ["git", "-C", os.fspath(folder), *arguments], capture_output=True, check=False,
            env=git_environment(self.folder) | environ,
        )  # fmt: skip
        if process.returncode:
            raise RuntimeError(process.stderr.decode())
        return process.stdout.decode().strip()
