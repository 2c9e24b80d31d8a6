"""Each command of docs/install.md is typed by a test: its own, or one of tests/docker and tests/cluster."""

from tests.support.page_commands import commands, section
from tests.support.paths import CHECKOUT


def test_the_commands_for_a_machine_with_docker_are_those_of_the_page_on_compose() -> None:
    typed = commands((CHECKOUT / "docs" / "compose.md").read_text(encoding="utf-8"))
    typed += commands(section("install.md", "## On your own machine"))
    with_docker = commands(section("install.md", "## On a machine with Docker"))
    assert len(with_docker) == 4
    assert [command for command in with_docker if command not in typed] == []


def test_no_command_is_in_a_section_that_no_test_reads() -> None:
    page = (CHECKOUT / "docs" / "install.md").read_text(encoding="utf-8")
    headings = [line for line in page.splitlines() if line.startswith("## ")]
    assert headings == [
        "## On your own machine",
        "## On a machine with Docker",
        "## On a cluster",
        "## Behind a proxy of your network",
        "## When it does not start",
    ]
