"""A small checkout with a version, a changelog and a commit."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.bare_repos import git_environment

CHANGELOG = """\
# Changelog

What changed.

## 0.2.0, 2026-05-01

### Added

- A thing that the
  [page](docs/page.md#there) explains, and
  [another](https://example.org/x) as well.

## 0.1.0, 2026-01-31

The first release.
"""


@dataclass
class Checkout:
    """A checkout in which a release is prepared."""

    folder: Path

    def git(self, *arguments: str) -> str:
        author = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
        return subprocess.run(
            ["git", *author, *arguments],
            cwd=self.folder, env=git_environment(self.folder), check=True, capture_output=True, text=True,
        ).stdout.strip()  # fmt: skip

    def commit(self) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "A commit")

    def set_version(self, version: str) -> None:
        (self.folder / "services" / "common" / "version.py").write_text(
            f'"""The version."""\n\nVERSION = "{version}"\n'
        )

    @property
    def chart(self) -> Path:
        return self.folder / "deploy" / "helm" / "bindery" / "Chart.yaml"

    @property
    def changelog(self) -> str:
        return (self.folder / "CHANGELOG.md").read_text()

    @changelog.setter
    def changelog(self, text: str) -> None:
        (self.folder / "CHANGELOG.md").write_text(text)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A commit of 0.2.0 that can be released."""
    checkout = Checkout(tmp_path)
    (tmp_path / "services" / "common").mkdir(parents=True)
    checkout.set_version("0.2.0")
    checkout.chart.parent.mkdir(parents=True)
    checkout.chart.write_text("name: bindery\nversion: 0.2.0\nappVersion: 0.2.0\n")
    checkout.changelog = CHANGELOG
    checkout.git("init", "--quiet", "--initial-branch", "main")
    checkout.commit()
    return checkout
