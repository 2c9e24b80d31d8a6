"""The hub's database, in SQLite or by URL: the hub waits for one that is away, and says in a sentence what is wrong."""

import math
import os
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

_READ_ONLY = "25006"
"""SQLSTATE of PostgreSQL's refusal to write. A standby says it until it becomes the primary."""

_PAUSE_SECONDS = 0.5


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


def with_timeouts(url: str, options: Mapping[str, Any], seconds: int) -> dict[str, Any]:
    """Return options of `create_engine` by which no call waits much longer than `seconds` for a server that is gone.

    JupyterHub's calls hold up all its other work. What the URL or the options themselves say takes precedence.
    """
    parsed = make_url(url)
    timeouts = _timeouts(parsed.get_dialect().driver, seconds)
    timeouts = {name: value for name, value in timeouts.items() if name not in parsed.query}
    if not timeouts:
        return dict(options)
    return {**options, "connect_args": timeouts | dict(options.get("connect_args", {}))}


def _timeouts(driver: str, seconds: int) -> dict[str, int | str]:
    """Return a driver's own options: of libpq for PostgreSQL, and of the socket for MySQL."""
    if driver in {"psycopg", "psycopg2"}:
        return {
            "connect_timeout": seconds,
            "tcp_user_timeout": seconds * 1000,
            # A server that has got a query owes no packet but the answer, so it is asked whether it is still there.
            "keepalives_idle": math.ceil(seconds / 2),
            "keepalives_interval": 1,
            "keepalives_count": math.ceil(seconds / 2),
            "options": f"-c statement_timeout={seconds * 1000}",
        }
    if driver in {"mariadbconnector", "mysqldb", "pymysql"}:
        return dict.fromkeys(("connect_timeout", "read_timeout", "write_timeout"), seconds)
    return {}


def start_problem(url: str, options: Mapping[str, Any], services: Iterable[str], wait_seconds: float) -> str:
    """Let the database forget the tokens of `services`; return why that can't be done, and what to do.

    A database that does not answer, or is a standby still, is waited for, and one that refuses the login is not. Each
    step takes as long as `options` let it, so `wait_seconds` may be exceeded by a few of them. `options` are those that
    JupyterHub gives to `create_engine`. No sentence has the password.
    """
    parsed = _parsed(url)
    if not isinstance(parsed, URL):
        return parsed

    place, names = _place(parsed), list(services)
    ends_at = time.monotonic() + wait_seconds
    told = False
    # Until JupyterHub runs: a container's first process ignores it otherwise.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    while True:
        try:
            _prepare(parsed, options, names)
        except (SQLAlchemyError, TypeError, ValueError) as error:
            reason = _reason(parsed, error)
            if not _may_pass(parsed, error):
                advice = _advice(parsed, error, f"Correct {VARIABLE}, or what the database allows its user.")
                return f"The hub can't start: its database {place} can't be used ({reason}). {advice}"
            if time.monotonic() >= ends_at:
                advice = _advice(parsed, error, f"Start the database, or correct {VARIABLE}.")
                return (
                    f"The hub can't start: its database {place} could not be used for {wait_seconds:g} s ({reason}). "
                    f"{advice}"
                )
        else:
            return ""
        if not told:
            told = True
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


def _prepare(url: URL, options: Mapping[str, Any], services: Iterable[str]) -> None:
    """Connect once, and forget the tokens."""
    engine = create_engine(url, **options)
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


def _sqlstate(error: BaseException | None) -> str:
    """Return PostgreSQL's code of an error, which its two drivers name differently."""
    return str(getattr(error, "sqlstate", None) or getattr(error, "pgcode", None))


def _may_pass(url: URL, error: Exception) -> bool:
    """Return whether the database may be usable a little later."""
    if isinstance(error, DBAPIError) and _sqlstate(error.orig) == _READ_ONLY:
        return True
    if not isinstance(error, OperationalError):
        return False
    said = _said(error)
    return "locked" in said if url.get_backend_name() == "sqlite" else not _REFUSALS.search(said)


def _advice(url: URL, error: Exception, otherwise: str) -> str:
    """Return what to do about a SQLite file, whose variable is mostly unset; `otherwise` for all else."""
    if url.get_backend_name() != "sqlite" or not isinstance(error, DBAPIError):
        return otherwise
    folder = Path((url.database or "").removeprefix("file:")).parent
    said = _said(error)
    if "locked" in said:
        return "End the other program that uses this file."
    if "full" in said:
        return f"Make room on the disk of the folder {folder}."
    if "unable to open" in said or "readonly" in said:
        return f"The folder {folder} must exist, and the hub's user ({os.getuid()}) must be able to write to both."
    return f"Check this file and the disk of the folder {folder}; without the file, the hub begins with a new one."
