"""Tokens of our services in the hub's database: those of former configurations are revoked when the hub starts.

JupyterHub writes a service's configured token to its database when it starts, makes one for a service that it runs
itself, and never removes any. So a token that has been replaced, perhaps because it had leaked, would stay valid.
"""

from collections.abc import Iterable

from sqlalchemy import bindparam, inspect, text
from sqlalchemy.engine import Connection

_TABLES = {"api_tokens", "services"}
_DELETE = text("DELETE FROM api_tokens WHERE service_id IN (SELECT id FROM services WHERE name IN :names)").bindparams(
    bindparam("names", expanding=True)
)


def forget_service_tokens(connection: Connection, services: Iterable[str]) -> None:
    """Delete all tokens of the named services, in any kind of database; the hub adds those in use after this.

    A new database has none. Raises `sqlalchemy.exc.DBAPIError` where the database is locked or does not allow it.
    """
    if set(inspect(connection).get_table_names()) >= _TABLES:
        connection.execute(_DELETE, {"names": list(services)})
