"""A place to unpack to, beside which nothing may appear."""

from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from services.builder.executors.process.session.archives.budget import Budget
from services.builder.executors.process.session.archives.tree import NewTree


def budget_of(**limits: Any) -> Budget:
    """Return a budget that is large enough, but for what a test limits."""
    defaults: dict[str, Any] = {"max_bytes": 2**20, "max_files": 100, "max_ratio": 1e9, "ends_at": monotonic() + 3600}
    return Budget(**defaults | limits)


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[NewTree]:
    """An empty tree; after the test there is nothing beside it."""
    parent = tmp_path / "outer" / "inner"
    root = parent / "root"
    root.mkdir(parents=True)
    yield NewTree(root, "x.zip", budget_of())
    assert list(parent.iterdir()) == [root]
    assert list(parent.parent.iterdir()) == [parent]
