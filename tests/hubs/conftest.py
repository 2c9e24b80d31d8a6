"""What tests on real hubs share: a real Redis, and a real PostgreSQL."""

from collections.abc import Iterator

import pytest

from tests.support.postgres import Postgres, running_postgres
from tests.support.valkey import redis, valkey

__all__ = ["redis", "valkey"]


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """A server with the database `hub`, which belongs to the user of that name."""
    with running_postgres() as postgres:
        postgres.make_database("hub", owner="hub")
        yield postgres
