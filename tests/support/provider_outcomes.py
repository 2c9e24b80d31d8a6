"""The table of what each provider answers, and how its tests ended.

To run the tests and print the table as Markdown:

    python -m tests.support.provider_outcomes
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields

import pytest

MODULE = "tests/contract/test_provider_outcomes.py"


@dataclass(frozen=True)
class Resolves:
    """The link means what `Upstream.refs` has under these words."""

    words: str
    is_private: bool = False

    def __str__(self) -> str:
        return f"{self.words}, private" if self.is_private else self.words


@dataclass(frozen=True)
class Fails:
    """The link is refused, by an error with this code and these words in its sentence."""

    code: str
    says: str
    retry_after_seconds: int | None = None

    def __str__(self) -> str:
        wait = f" ({self.retry_after_seconds} s)" if self.retry_after_seconds else ""
        return f"`{self.code}`{wait}: {self.says}"


@dataclass(frozen=True)
class Absent:
    """Nothing of the kind exists at the provider."""

    why: str

    def __str__(self) -> str:
        return f"does not exist here: {self.why}"


Cell = Resolves | Fails | Absent


@dataclass(frozen=True, kw_only=True)
class Row:
    """A provider's outcome in each column."""

    head: Cell
    branch: Cell
    tag: Cell
    sha: Cell
    not_found: Cell
    private_to_nobody: Cell
    private_to_operator: Cell
    private_to_user: Cell
    rate_limited: Cell
    down: Cell
    slow: Cell

    def cells(self) -> Iterator[tuple[str, Cell]]:
        for column in fields(self):
            yield column.name, getattr(self, column.name)


TITLES = {
    "head": "HEAD, newest version",
    "branch": "branch",
    "tag": "tag",
    "sha": "sha, one version",
    "not_found": "not found",
    "private_to_nobody": "private, no credential",
    "private_to_operator": "private, operator's token",
    "private_to_user": "private, the request's credential",
    "rate_limited": "rate limited",
    "down": "upstream down",
    "slow": "upstream slow",
}


def markdown(rows: Mapping[str, Row], passed: Mapping[str, bool]) -> str:
    """Return the table; `passed` says of `<provider>-<column>` whether its test passed."""
    lines = [["", *TITLES.values()], ["---"] * (len(TITLES) + 1)]
    for provider, row in rows.items():
        cells = [_marked(cell, passed.get(f"{provider}-{column}", False)) for column, cell in row.cells()]
        lines.append([f"`{provider}`", *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _marked(cell: Cell, has_passed: bool) -> str:
    if isinstance(cell, Absent):
        return str(cell)
    return f"{'✓' if has_passed else '✗'} {cell}"


class _Outcomes:
    """Notes of each test whether it passed: a plugin of pytest."""

    def __init__(self) -> None:
        self.passed: dict[str, bool] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = report.nodeid.partition("[")[2].removesuffix("]")
        self.passed[name] = self.passed.get(name, True) and report.passed


def main() -> int:
    """Run the tests and print the table; the exit status is pytest's."""
    outcomes = _Outcomes()
    status = pytest.main([MODULE, "--quiet", "--no-header", "-p", "no:xdist"], plugins=[outcomes])

    from tests.contract.test_provider_outcomes import OUTCOMES

    print(f"\n{markdown(OUTCOMES, outcomes.passed)}")
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
