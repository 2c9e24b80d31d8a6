"""Paths of the checkout, of the tests and of recorded replies."""

import os
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
TESTS = CHECKOUT / "tests"
RECORDED = TESTS / "contract" / "recorded"


def share_packages(data_dir: Path) -> None:
    """Let the builds of all data folders of a machine share the packages that they fetched."""
    cache = Path(os.environ.get("BINDERY_TEST_CACHE", "/tmp/bindery-test-uv-cache"))
    cache.mkdir(parents=True, exist_ok=True)
    (data_dir / "uv-cache").symlink_to(cache)
