"""Workers for the tests of this folder."""

from pathlib import Path

import pytest
from redis.asyncio import Redis

from tests.support.in_process_worker import StartWorker, workers_of
from tests.support.valkey import Valkey


@pytest.fixture
def started(valkey: Valkey, redis: Redis, tmp_path: Path) -> StartWorker:
    """Workers on a Redis that is empty at first."""
    return workers_of(valkey, tmp_path)
