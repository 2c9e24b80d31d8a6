"""The parts of every generated page: a note that they are generated, and tables."""

from collections.abc import Iterable, Sequence

NOTE = "<!-- Generated from the code by docs/generate: `make docs` writes this page. -->"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table, with the vertical bars in its cells escaped."""
    return _line(head) + _line(["---"] * len(head)) + "".join(map(_line, rows))


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"
