"""Every case, launched, and a table of their outcomes: `python -m tests.repositories [arguments of pytest]`.

With an engine, or where it can start one, those that repo2docker builds are launched by that, too.
"""

import sys

import pytest

from tests.support.paths import TESTS

FILES = ("repositories/test_process.py", "repositories/test_copies.py", "docker/test_repositories_long.py")


def main() -> int:
    """Return pytest's exit status."""
    files = [str(TESTS / file) for file in FILES]
    return int(pytest.main(["-m", "long", "--tb=short", "--no-header", "-q", *files, *sys.argv[1:]]))


if __name__ == "__main__":
    sys.exit(main())
