"""Tokens of our services in the hub's database: those of former configurations are revoked when the hub starts.

JupyterHub writes a service's configured token to its database when it starts, makes one for a service that it runs
itself, and never removes any. So a token that has been replaced, perhaps because it had leaked, would stay valid.
"""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from jupyterhub.app import JupyterHub

_TABLES = {"api_tokens", "services"}
_DELETE = "DELETE FROM api_tokens WHERE service_id IN (SELECT id FROM services WHERE name = ?)"


def forget_service_tokens(database: Path, services: Iterable[str]) -> None:
    """Delete all tokens of the named services from the SQLite file; the hub adds those in use after this.

    Does nothing in commands like `jupyterhub token`, which read the hub's configuration while the hub itself may run.
    Raises `sqlite3.Error` if the file is no database, or is locked.
    """
    if JupyterHub.initialized() and database.exists():
        with closing(sqlite3.connect(database)) as connection, connection:
            if {name for (name,) in connection.execute("SELECT name FROM sqlite_master")} >= _TABLES:
                connection.executemany(_DELETE, [(service,) for service in services])
