"""docs/release.md: each command of the page, in a clone whose origin takes the push of a release."""

import subprocess
from pathlib import Path

import pytest

from services.common.version import VERSION
from tests.support.bare_repos import git_environment
from tests.support.helm import installed_helm
from tests.support.page_commands import Terminal, bare_clone, commands, section

pytestmark = pytest.mark.long

EXAMPLE_OF_THE_NEXT = "0.2.0"
AUTHOR = {
    "GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "A", "GIT_COMMITTER_EMAIL": "a@example.org",
}  # fmt: skip


def next_minor(version: str) -> str:
    major, minor, _ = version.split(".")
    return f"{major}.{int(minor) + 1}.0"


@pytest.mark.timeout(900)
def test_a_release_is_cut_as_the_page_says(tmp_path: Path) -> None:
    origin = bare_clone(tmp_path)
    terminal = Terminal(tmp_path)
    terminal.environ |= AUTHOR | {"DOCKER_HOST": f"unix://{tmp_path}/no-engine.sock"}
    terminal.environ["PATH"] += f":{Path(installed_helm().program).parent}"
    terminal.type(f"git clone --quiet {origin} checkout")
    terminal.type("cd checkout")
    printed = [
        terminal.type(command.replace(EXAMPLE_OF_THE_NEXT, next_minor(VERSION)))
        for heading in ("## Before", "## The release", "## After")
        for command in commands(section("release.md", heading))
    ]

    marks = (line.split(None, 2)[:2] for line in printed[0].splitlines())
    rows = {part: mark for mark, part in marks if mark != "FAIL"}
    assert rows == {
        "wheel": "ok", "content": "ok", "installed": "ok", "chart": "ok", "images": "skip", "notes": "ok",
        "check": "later",
    }  # fmt: skip
    assert f"installed    bindery {VERSION}\n" in printed[0]
    assert f"{VERSION} can be released.\n" in printed
    assert any(text.startswith("The first release") for text in printed) or VERSION != "0.1.0"

    def at_origin(revision: str, path: str) -> str:
        command = ["git", "-C", str(origin), "show", f"{revision}:{path}"]
        return subprocess.run(
            command, env=git_environment(tmp_path), check=True, capture_output=True, text=True
        ).stdout  # fmt: skip

    assert f'VERSION = "{VERSION}"' in at_origin(f"v{VERSION}", "services/common/version.py")
    assert f"## {VERSION}, unreleased" not in at_origin(f"v{VERSION}", "CHANGELOG.md")
    assert f'VERSION = "{next_minor(VERSION)}"' in at_origin("main", "services/common/version.py")
    assert f"## {next_minor(VERSION)}, unreleased\n\n## {VERSION}, 20" in at_origin("main", "CHANGELOG.md")

    # As the workflow finds it.
    terminal.type(f"git clone --quiet --branch v{VERSION} {origin} {tmp_path}/tagged")
    terminal.type(f"cd {tmp_path}/tagged")
    assert terminal.type(f"python3 -m tools.release check --tag v{VERSION}") == f"{VERSION} can be released.\n"
    assert terminal.type("python3 -m tools.release version") == f"{VERSION}\n"
