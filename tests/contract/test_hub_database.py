"""A real JupyterHub and its database, which outlives releases."""

import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.real_hub import HUB_PYTHON, HubStack


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[HubStack]:
    """A hub that has not been started."""
    stack = HubStack(tmp_path / "hub")
    try:
        yield stack
    finally:
        stack.stop()


def database_of(stack: HubStack) -> Path:
    return stack.data / "hub" / "jupyterhub.sqlite"


def rows(database: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(query).fetchall()


def revision(database: Path) -> object:
    ((version,),) = rows(database, "SELECT version_num FROM alembic_version")
    return version


def downgrade(stack: HubStack) -> None:
    """Give the database the schema before the newest one, by JupyterHub's own scripts."""
    folder = stack.folder / "downgrade"
    folder.mkdir()
    (folder / "jupyterhub_config.py").write_text(f"c.JupyterHub.db_url = {f'sqlite:///{database_of(stack)}'!r}\n")
    command = [str(HUB_PYTHON), "-m", "jupyterhub.dbutil", "alembic", "downgrade", "-1"]
    subprocess.run(command, cwd=folder, env=stack.env, check=True)


def test_a_database_of_an_older_jupyterhub_is_upgraded_and_a_copy_of_it_kept(stack: HubStack) -> None:
    stack.start()
    assert stack.call("POST", "users/ada").status_code == 201
    stack.stop()
    database = database_of(stack)
    newest = revision(database)
    downgrade(stack)
    older = revision(database)
    assert older != newest

    stack.start()
    assert [user["name"] for user in stack.call("GET", "users").json()] == ["ada"]
    assert revision(database) == newest
    (copy,) = database.parent.glob("jupyterhub.sqlite.????-??-??-??????")
    assert revision(copy) == older
    assert rows(copy, "SELECT name FROM users") == [("ada",)]
