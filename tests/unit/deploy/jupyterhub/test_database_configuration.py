"""The hub's database in its configuration, which an operator's own file may have changed."""

from pathlib import Path
from typing import Any

import pytest
from traitlets.config import Config

from deploy.jupyterhub.database_configuration import configure_database, database_problem


@pytest.fixture
def c(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The configuration of a hub whose database is a MySQL server, with limits of 4 seconds."""
    monkeypatch.setenv("BINDERY_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("BINDERY_HUB_DB_URL", "mysql+pymysql://db/hub")
    monkeypatch.setenv("BINDERY_HUB_DB_TIMEOUT_SECONDS", "4")
    c = Config()
    configure_database(c)
    return c


def test_the_hubs_own_connections_have_limits_of_time(c: Any) -> None:
    assert database_problem(c) == ""
    arguments = {"connect_timeout": 4, "read_timeout": 4, "write_timeout": 4}
    assert c.JupyterHub.db_kwargs == {"connect_args": arguments}


@pytest.mark.parametrize("is_updated", [True, False])
def test_the_operators_options_win_and_are_completed(c: Any, is_updated: bool) -> None:
    options = {"pool_size": 2, "connect_args": {"read_timeout": 30}}
    if is_updated:
        c.JupyterHub.db_kwargs.update(options)
    else:
        c.JupyterHub.db_kwargs = options
    assert database_problem(c) == ""
    arguments = {"connect_timeout": 4, "read_timeout": 30, "write_timeout": 4}
    assert c.JupyterHub.db_kwargs == {"pool_size": 2, "connect_args": arguments}


def test_a_database_that_the_operators_file_names_has_them_too(c: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BINDERY_HUB_DB_TIMEOUT_SECONDS")
    c.JupyterHub.db_url = "postgresql://db/hub"
    assert database_problem(c) == ""
    assert c.JupyterHub.db_kwargs["connect_args"]["connect_timeout"] == 10


def test_what_is_no_url_is_said_at_once(c: Any) -> None:
    c.JupyterHub.db_url = "db.example.org/hub"
    assert "is no database's URL" in database_problem(c)
