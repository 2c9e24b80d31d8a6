"""The database of our own hub in its configuration: which one it is, and how long the hub waits for it."""

import os
from typing import Any

from jupyterhub.app import JupyterHub
from traitlets.config import LazyConfigValue

from deploy.jupyterhub import configuration, database


def configure_database(c: Any) -> None:
    """Set the hub's database: the one that a variable names, or a SQLite file."""
    sqlite_file = configuration.state_folder() / "jupyterhub.sqlite"
    c.JupyterHub.db_url = database.database_url(os.environ.get("BINDERY_HUB_DB_URL", ""), sqlite_file)
    # The database outlives releases. JupyterHub keeps a copy of a SQLite file beside it before it changes the schema.
    c.JupyterHub.upgrade_db = True


def database_problem(c: Any) -> str:
    """Return why the hub can't use its database; the hub itself first waits for it, and revokes our services' tokens.

    Called when the configuration is complete: this adds the limits of time. Commands like `jupyterhub token` also read
    the hub's configuration, perhaps while the hub runs: they do not wait, and revoke nothing.
    """
    url = c.JupyterHub.db_url
    if problem := database.url_problem(url):
        return problem
    options = c.JupyterHub.get("db_kwargs", {})
    if isinstance(options, LazyConfigValue):  # `c.JupyterHub.db_kwargs.update(...)`
        options = options.get_value({})
    timeout_seconds = int(float(os.environ.get("BINDERY_HUB_DB_TIMEOUT_SECONDS", "10")))
    c.JupyterHub.db_kwargs = options = database.with_timeouts(url, options, timeout_seconds)
    if not JupyterHub.initialized():
        return ""
    wait_seconds = float(os.environ.get("BINDERY_HUB_DB_WAIT_SECONDS", "60"))
    return database.start_problem(url, options, [str(role["name"]) for role in configuration.roles()], wait_seconds)
