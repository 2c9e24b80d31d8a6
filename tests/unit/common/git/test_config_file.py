"""Sections of a configuration, as git reads them."""

import os
import subprocess
from pathlib import Path

import pytest

from services.common.git.config_file import add_section

TEXTS = [
    "main", "a/b", "-x", ' a "b" ', "a\\b", "a\\", '"', "a#b;c", "a]b", "[a]", "a = b", "a\tb", "a\rb", "a\r", "größe",
    "caf\udce9", "\u00a0", "",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    return tmp_path


def test_git_reads_what_was_written(folder: Path) -> None:
    for text in TEXTS:
        add_section(folder, "branch", text, remote="origin", merge=text)
    command = ["git", "config", "--local", "--list", "-z"]
    output = subprocess.run(command, cwd=folder, capture_output=True, check=True).stdout
    values = dict(os.fsdecode(row).split("\n", 1) for row in output.split(b"\0")[:-1])
    written = {name: value for name, value in values.items() if name.startswith("branch.")}
    remotes = {f"branch.{text}.remote": "origin" for text in TEXTS}
    assert written == remotes | {f"branch.{text}.merge": text for text in TEXTS}
    assert values["core.bare"] == "false"


@pytest.mark.parametrize("text", ["a\nb", "a\0b"])
def test_a_text_that_git_cannot_read_is_not_written(folder: Path, text: str) -> None:
    before = (folder / ".git/config").read_bytes()
    for name, value in ((text, "1"), ("name", text)):
        with pytest.raises(ValueError, match="no section can"):
            add_section(folder, "branch", name, merge=value)
    assert (folder / ".git/config").read_bytes() == before
