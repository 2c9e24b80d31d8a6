"""The hub's database, in SQLite or by URL: the hub waits for one that is away, and says in a sentence what is wrong."""

import math
import re
import signal
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError, SQLAlchemyError

from deploy.jupyterhub.service_tokens import forget_service_tokens

VARIABLE = "BINDERY_HUB_DB_URL"

_REFUSALS = re.compile(
    r"authentication failed|no password supplied|pg_hba\.conf|does not exist|permission denied"
    r"|access denied|command denied|unknown database|not allowed to connect",
    re.IGNORECASE,
)
"""What PostgreSQL and MySQL say when they refuse something. Whatever else keeps a client out may pass by itself."""

_PAUSE_SECONDS = 0.5
_TRY_SECONDS = (2, 10)
"""How long one attempt to connect may take, at least and at most: the next one finds a server that has moved."""
_WITH_TIMEOUT = {"mariadbconnector", "mysqldb", "psycopg", "psycopg2", "pymysql"}
"""The drivers that take this time as `connect_timeout`."""


def database_url(given: str, sqlite_file: Path) -> str:
    """Return the URL for JupyterHub: the given one, or that of a SQLite file if none is given.

    JupyterHub keeps a password out of its log only if `urllib` finds it in the URL, as it does once `/`, `?` and `#` in
    it are %-codes.
    """
    if not (given := given.strip()):
        return f"sqlite:///{sqlite_file}"
    url = _parsed(given)
    return url.render_as_string(hide_password=False) if isinstance(url, URL) and url.password else given


def url_problem(url: str) -> str:
    """Return why a URL can be that of no database here; nothing if it can."""
    parsed = _parsed(url)
    return "" if isinstance(parsed, URL) else parsed


def start_problem(url: str, options: Mapping[str, Any], services: Iterable[str], wait_seconds: float) -> str:
    """Let the database forget the tokens of `services`; return why that can't be done, and what to do.

    A database that does not answer is waited for, and one that refuses the login is not. `options` are those that
    JupyterHub gives to `create_engine`. No sentence has the password.
    """
    parsed = _parsed(url)
    if not isinstance(parsed, URL):
        return parsed

    place, names = _place(parsed), list(services)
    ends_at = time.monotonic() + wait_seconds
    told = False
    while True:
        try:
            _prepare(parsed, options, names, ends_at - time.monotonic())
        except (SQLAlchemyError, TypeError, ValueError) as error:
            reason = _reason(parsed, error)
            if not _may_pass(parsed, error):
                return (
                    f"The hub can't start: its database {place} can't be used ({reason}). Correct {VARIABLE}, or what "
                    "the database allows its user."
                )
            if time.monotonic() >= ends_at:
                return (
                    f"The hub can't start: its database {place} could not be used for {wait_seconds:g} s ({reason}). "
                    f"Start the database, or correct {VARIABLE}."
                )
        else:
            return ""
        if not told:
            told = True
            # Until JupyterHub runs: a container's first process ignores it otherwise.
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
            sys.stderr.write(f"The hub waits for its database {place} ({reason}).\n")
        time.sleep(_PAUSE_SECONDS)


def _parsed(given: str) -> URL | str:
    """Return the parsed URL, or what is wrong with it: of the URL no more than its scheme."""
    scheme = given.partition("://")[0]
    try:
        url = make_url(given)
        if "@" in (url.host or ""):
            raise ArgumentError
        create_engine(url).dispose()
    except NoSuchModuleError:
        return (
            f"The hub can't start: {VARIABLE} begins with {scheme}://, which no kind of database known here has. "
            "Set it to a URL that begins with postgresql:// or mysql+pymysql://, or unset it for a SQLite file."
        )
    except ImportError:
        return (
            f"The hub can't start: {VARIABLE} is for {scheme}://, whose driver is not installed with JupyterHub. "
            "The hub's image has those of postgresql:// and mysql+pymysql://."
        )
    except (SQLAlchemyError, TypeError, ValueError):
        return (
            f"The hub can't start: {VARIABLE} is no database's URL: postgresql://user:password@host:5432/name is one. "
            "Special characters of its password must be %-codes, such as %40 for @."
        )
    return url


def _prepare(url: URL, options: Mapping[str, Any], services: Iterable[str], seconds: float) -> None:
    """Connect once, within about `seconds` unless the URL or the options say how long, and forget the tokens."""
    shortest, longest = _TRY_SECONDS
    arguments = dict(options.get("connect_args", {}))
    if url.get_dialect().driver in _WITH_TIMEOUT and "connect_timeout" not in url.query:
        arguments.setdefault("connect_timeout", min(longest, max(shortest, math.ceil(seconds))))
    engine = create_engine(url, **{**options, "connect_args": arguments})
    try:
        with engine.begin() as connection:
            if inspect(connection).get_table_names():
                forget_service_tokens(connection, services)
            else:  # JupyterHub makes its tables, and would not say in a sentence that it may not
                connection.execute(text("CREATE TABLE IF NOT EXISTS bindery_may_create (x INTEGER)"))
                connection.execute(text("DROP TABLE bindery_may_create"))
    finally:
        engine.dispose()


def _place(url: URL) -> str:
    """Return where the database is, without its user: `at db.example.org:5432/hub`, or a file."""
    hosts = url.host or url.query.get("host", "")
    host = hosts if isinstance(hosts, str) else ",".join(hosts)
    port = f":{url.port}" if url.port else ""
    return f"at {host}{port}/{url.database or ''}" if host else f"{url.database or ''}"


def _said(error: Exception) -> str:
    """Return all that the driver says."""
    said = error.orig if isinstance(error, DBAPIError) else error
    return str(said.args[-1] if said and said.args else said)


def _reason(url: URL, error: Exception) -> str:
    """Return the first line of what the driver says, without the password."""
    reason = _said(error).strip().partition("\n")[0]
    for password in (url.password, url.query.get("password")):
        reason = reason.replace(password, "***") if isinstance(password, str) and password else reason
    return reason


def _may_pass(url: URL, error: Exception) -> bool:
    """Return whether the database may be usable a little later."""
    if not isinstance(error, OperationalError):
        return False
    said = _said(error)
    return "locked" in said if url.get_backend_name() == "sqlite" else not _REFUSALS.search(said)
