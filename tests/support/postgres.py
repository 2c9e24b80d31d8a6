"""A real PostgreSQL server (Debian's package) on a free port, with a database that belongs to the hub's user."""

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg

from tests.support.engine import install
from tests.support.polling import eventually
from tests.support.ports import free_ports


class Postgres:
    """One server process in a folder of its own; it may be stopped and started again.

    Raise `NoEngineError` where the program is missing and can't be installed.
    """

    def __init__(self, folder: Path) -> None:
        install("postgresql=pg_ctlcluster")
        self.folder = folder
        self.port = free_ports(1, avoid=set())[0]
        self.password = secrets.token_hex(16)
        self.process: subprocess.Popen[bytes] | None = None
        self._owner = "postgres" if os.getuid() == 0 else None  # the server refuses to run as root
        if self._owner:
            os.chown(folder, pwd.getpwnam(self._owner).pw_uid, -1)
        password_file = folder / "password"
        password_file.write_text(self.password)
        password_file.chmod(0o644)
        initdb = [_program("initdb"), "--auth=scram-sha-256", "--pwfile", str(password_file), "--username=admin"]
        initdb += ["--no-sync", "--no-instructions", "--encoding=UTF8", "--locale=C", str(folder / "data")]
        subprocess.run(initdb, user=self._owner, cwd=folder, check=True, stdout=subprocess.DEVNULL)

    def url(self, user: str, *, password: str | None = None, database: str = "hub", place: str = "") -> str:
        """Return the URL of a database, as SQLAlchemy and psycopg know it. All users have the same password.

        `place` is host and port of a relay to it.
        """
        place = place or f"127.0.0.1:{self.port}"
        return f"postgresql://{user}:{password or self.password}@{place}/{database}"

    def start(self) -> None:
        command = [_program("postgres"), "-D", str(self.folder / "data"), "-k", str(self.folder), "-p", str(self.port)]
        command += ["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        with (self.folder / "postgres.log").open("ab") as log:
            self.process = subprocess.Popen(command, user=self._owner, cwd=self.folder, stdout=log, stderr=log)
        eventually(self._answers, "PostgreSQL answers")

    def _answers(self) -> bool:
        assert self.process
        assert self.process.poll() is None, (self.folder / "postgres.log").read_text()
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(self.url("admin", database="postgres")).close()
            return True
        return False

    def make_database(self, name: str, owner: str) -> None:
        """Make a user and a database of that user's own."""
        with psycopg.connect(self.url("admin", database="postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE ROLE {owner} LOGIN PASSWORD '{self.password}'".encode())
            connection.execute(f"CREATE DATABASE {name} OWNER {owner}".encode())

    def rows(self, query: str, *, database: str = "hub") -> list[tuple[object, ...]]:
        """Return what a query finds."""
        with psycopg.connect(self.url("admin", database=database)) as connection:
            return connection.execute(query.encode()).fetchall()

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)  # ends the sessions, too
            self.process.wait(30)


def _program(name: str) -> str:
    """Return the path of a server program; Debian has those outside of PATH."""
    folders = sorted(str(folder) for folder in Path("/usr/lib/postgresql").glob("*/bin"))
    path = os.pathsep.join([*reversed(folders), os.environ["PATH"]])
    program = shutil.which(name, path=path)
    assert program, f"no {name} in {path}"
    return program


@contextlib.contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Run a server for the length of the block, in a folder that its user may enter."""
    with tempfile.TemporaryDirectory(prefix="bindery-postgres-") as folder:
        postgres = Postgres(Path(folder))
        try:
            postgres.start()
            yield postgres
        finally:
            postgres.stop()
