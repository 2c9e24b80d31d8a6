"""What unit tests share: a real Redis for what is stored there, the log as services write it, and little time."""

import os
from pathlib import Path

import pytest

from tests.support.in_process_launcher import hub, start_launcher
from tests.support.logs import logs
from tests.support.unread_errors import unread_errors
from tests.support.valkey import context, own_valkey, redis, valkey

__all__ = ["context", "hub", "logs", "own_valkey", "redis", "start_launcher", "unread_errors", "valkey"]

HERE = Path(__file__).parent
ROOM = 3 if os.environ.get("CI") else 1
"""A machine of many users has times in which all takes three times as long."""

SECONDS = 10 * ROOM
SLOW_SECONDS = 60 * ROOM


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each unit test a time limit: a test that hangs ends soon, with the place where it hung."""
    for item in items:
        if item.path.is_relative_to(HERE) and not item.get_closest_marker("timeout"):
            seconds = SLOW_SECONDS if item.get_closest_marker("slow") else SECONDS
            item.add_marker(pytest.mark.timeout(seconds))
