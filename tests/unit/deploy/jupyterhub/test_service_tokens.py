"""The hub's database when service tokens are to be removed from it: new, empty, or with tokens of others."""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from deploy.jupyterhub.service_tokens import forget_service_tokens


def forget(database: Path, services: Iterable[str]) -> None:
    engine = create_engine(f"sqlite:///{database}")
    with engine.begin() as connection:
        forget_service_tokens(connection, services)
    engine.dispose()


@pytest.mark.parametrize("tables", [[], ["services (id, name)"], ["api_tokens (service_id)"]])
def test_a_database_without_services_and_tokens_stays_as_it_is(tables: list[str], tmp_path: Path) -> None:
    database = tmp_path / "hub.sqlite"
    database.touch()
    with closing(sqlite3.connect(database)) as connection, connection:
        for table in tables:
            connection.execute(f"CREATE TABLE {table}")
    before = database.read_bytes()
    forget(database, ["bindery-launcher"])
    assert database.read_bytes() == before


def test_tokens_of_other_services_and_of_users_stay(tmp_path: Path) -> None:
    database = tmp_path / "hub.sqlite"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE services (id, name)")
        connection.execute("CREATE TABLE api_tokens (id, service_id, user_id)")
        connection.executemany("INSERT INTO services VALUES (?, ?)", [(1, "bindery-launcher"), (2, "grader")])
        connection.executemany("INSERT INTO api_tokens VALUES (?, ?, ?)", [(1, 1, None), (2, 2, None), (3, None, 1)])
    forget(database, ["bindery-launcher", "bindery-culler"])
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT id FROM api_tokens").fetchall() == [(2,), (3,)]
