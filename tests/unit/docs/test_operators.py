"""What docs/operators.md says of metrics and of lines of the log, the code has."""

import re

from docs.generate.metrics import metrics_page
from tests.support.paths import CHECKOUT

PAGE = (CHECKOUT / "docs" / "operators.md").read_text()


def rows_of(heading: str) -> list[str]:
    """The first cells of the table below a heading."""
    section = PAGE.partition(f"### {heading}\n")[2].partition("\n#")[0]
    cells = [line.split("|")[1].strip() for line in section.splitlines() if line.startswith("|")]
    return cells[2:]


def test_each_line_that_operators_are_told_to_act_on_is_logged() -> None:
    lines = [word for cell in rows_of("Lines that ask for something") for word in re.findall(r"`(\w+)`", cell)]
    assert len(lines) > 10
    sources = [path.read_text() for path in sorted((CHECKOUT / "services").rglob("*.py"))]
    logged = {word for source in sources for word in re.findall(r'\blog\.\w+\(\s*"(\w+)"', source)}
    assert [line for line in lines if line not in logged] == []


def test_each_metric_that_operators_are_told_to_watch_exists() -> None:
    metrics = [name for cell in rows_of("Metrics to watch") for name in re.findall(r"`(bindery_\w+)`", cell)]
    assert len(metrics) > 5
    page = metrics_page()
    assert [name for name in metrics if f"| `{name}` |" not in page] == []
