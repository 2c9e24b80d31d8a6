"""Terminals: the files that bash reads, and the PATH that it keeps."""

import subprocess
from pathlib import Path

import pytest

from services.builder.executors.process.session import image_runtime

SCRIPT = Path(image_runtime.__path__[0]) / "terminal.sh"


def seen(home: Path, files: dict[str, str]) -> list[str]:
    for name, text in files.items():
        (home / name).write_text(text)
    command = ["/bin/bash", "--init-file", str(SCRIPT), "-i", "-c", 'echo "PATH=$PATH"; echo "READ=$READ"']
    env = {"HOME": str(home), "PATH": "/image/env/bin:/usr/bin:/bin"}
    printed = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    return [line for line in printed.stdout.splitlines() if "=" in line]


def test_the_servers_path_is_kept(tmp_path: Path) -> None:
    assert seen(tmp_path, {}) == ["PATH=/image/env/bin:/usr/bin:/bin", "READ="]


@pytest.mark.parametrize(
    ("names", "read"),
    [
        ((".bashrc",), ".bashrc"),
        ((".profile", ".bashrc"), ".profile"),
        ((".bash_profile", ".bash_login", ".profile"), ".bash_profile"),
    ],
)
def test_the_repositorys_file_is_read_as_a_login_shell_would(tmp_path: Path, names: tuple[str, ...], read: str) -> None:
    assert seen(tmp_path, {name: f"READ={name}\n" for name in names})[1] == f"READ={read}"
