"""Each command of docs/install.md is typed by a test."""

from tests.support.paths import CHECKOUT


def test_no_command_is_in_a_section_that_no_test_reads() -> None:
    page = (CHECKOUT / "docs" / "install.md").read_text(encoding="utf-8")
    headings = [line for line in page.splitlines() if line.startswith("## ")]
    assert headings == [
        "## On your own machine",
        "## Behind a proxy of your network",
        "## When it does not start",
    ]
