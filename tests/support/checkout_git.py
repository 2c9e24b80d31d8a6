"""The installed git in a checkout, as a package's build or a postBuild runs it."""

import subprocess
from pathlib import Path

from tests.support.bare_repos import git_environment


def git_in(folder: Path, *arguments: str) -> str:
    """Run git in a checkout and return what it prints; what it says of the failure if it fails."""
    process = subprocess.run(
        ["git", *arguments], cwd=folder, env=git_environment(folder.parent), capture_output=True, text=True, check=False
    )
    return (process.stdout if process.returncode == 0 else process.stderr).rstrip()
