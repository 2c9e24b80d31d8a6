"""What is wrong with the hub's database is said in one sentence, which never has the password."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from deploy.jupyterhub.database import database_url, start_problem, url_problem, with_timeouts
from tests.support.paths import CHECKOUT
from tests.support.ports import free_ports

NO_URL = (
    "The hub can't start: BINDERY_HUB_DB_URL is no database's URL: postgresql://user:password@host:5432/name is one."
)


def sqlite_url(path: Path) -> str:
    return database_url("", path)


def test_without_a_url_the_database_is_a_sqlite_file(tmp_path: Path) -> None:
    for empty in ("", " \n"):
        assert database_url(empty, tmp_path / "hub.sqlite") == f"sqlite:///{tmp_path}/hub.sqlite"


def test_a_url_is_passed_on_without_the_white_space_around_it() -> None:
    for url in ("postgresql://hub@db.example.org/hub", "sqlite:////data/hub.sqlite", "postgresql:///hub?host=/run/pg"):
        assert database_url(f"{url}\n", Path("unused")) == url


def test_special_characters_of_a_password_become_codes_so_that_jupyterhub_finds_it_and_hides_it_in_its_log() -> None:
    url = database_url("mysql+pymysql://hub:a/b?c#d@db:3306/hub", Path("unused"))
    assert url == "mysql+pymysql://hub:a%2Fb%3Fc%23d@db:3306/hub"
    assert database_url(url, Path("unused")) == url


@pytest.mark.parametrize(
    "url",
    [
        "db.example.org/hub", "hub:secret@db.example.org/hub", "://hub:secret@db/hub", "postgresql://hub:sec@ret@db/hub",
        "postgresql://hub:pw@db:secret/hub", "/data/secret.sqlite",
    ],
)  # fmt: skip
def test_what_is_no_url_is_not_repeated(url: str) -> None:
    assert url_problem(url).startswith(NO_URL)
    assert "secret" not in url_problem(url)
    assert start_problem(database_url(url, Path("unused")), {}, [], wait_seconds=3600) == url_problem(url)


@pytest.mark.parametrize("scheme", ["postgres", "https", "postgresql+none"])
def test_a_kind_of_database_that_is_not_known_is_named(scheme: str) -> None:
    problem = url_problem(f"{scheme}://hub:secret@db/hub")
    assert problem.startswith(f"The hub can't start: BINDERY_HUB_DB_URL begins with {scheme}://, which no kind of ")
    assert "begins with postgresql:// or mysql+pymysql://, or unset it" in problem
    assert "secret" not in problem


def test_a_driver_that_is_not_installed_is_named() -> None:
    problem = url_problem("mysql://hub:secret@db/hub")
    assert problem.startswith("The hub can't start: BINDERY_HUB_DB_URL is for mysql://, whose driver is not installed ")
    assert "secret" not in problem


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A server whose connections are opened by the system, and which never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def url_at(silent: socket.socket, scheme: str) -> str:
    return f"{scheme}://hub:secret@127.0.0.1:{silent.getsockname()[1]}/names"


@pytest.mark.timeout(30)
@pytest.mark.parametrize("scheme", ["postgresql+psycopg", "mysql+pymysql"])
def test_a_server_that_takes_connections_and_says_nothing_is_waited_for_and_then_named(
    scheme: str, silent: socket.socket
) -> None:
    url = url_at(silent, scheme)
    problem = start_problem(url, with_timeouts(url, {}, 1), [], wait_seconds=0.1)
    assert "/names could not be used for 0.1 s (" in problem


@pytest.mark.timeout(30)
def test_a_hub_that_is_stopped_during_its_first_attempt_ends_as_the_first_process_of_a_container_must(
    silent: socket.socket,
) -> None:
    program = "import sys; from deploy.jupyterhub.database import start_problem; start_problem(sys.argv[1], {}, [], 9)"
    command = [sys.executable, "-c", program, url_at(silent, "mysql+pymysql")]
    with subprocess.Popen(command, cwd=CHECKOUT) as hub:
        connection, _ = silent.accept()
        hub.send_signal(signal.SIGTERM)
        assert hub.wait() == 1  # -15 if it was up to the system, which spares the first process
        connection.close()


def test_every_driver_has_a_limit_of_time() -> None:
    socket_only = {"connect_timeout": 4, "read_timeout": 4, "write_timeout": 4}
    assert with_timeouts("mysql+pymysql://db/hub", {}, 4) == {"connect_args": socket_only}
    libpq = {
        "connect_timeout": 4, "tcp_user_timeout": 4000, "options": "-c statement_timeout=4000",
        "keepalives_idle": 2, "keepalives_interval": 1, "keepalives_count": 2,
    }  # fmt: skip
    assert with_timeouts("postgresql://db/hub", {}, 4) == {"connect_args": libpq}
    assert with_timeouts("postgresql+psycopg://db/hub", {}, 4) == {"connect_args": libpq}


@pytest.mark.parametrize("options", [{}, {"pool_size": 2}, {"connect_args": {"timeout": 1}}])
def test_a_sqlite_files_options_stay_as_they_are(options: dict[str, Any]) -> None:
    assert with_timeouts("sqlite:////data/hub.sqlite", options, 4) == options


def test_options_of_the_url_and_of_the_hubs_configuration_take_precedence() -> None:
    given = {"pool_size": 2, "connect_args": {"write_timeout": 9, "ssl": True}}
    assert with_timeouts("mysql+pymysql://db/hub?read_timeout=8", given, 4) == {
        "pool_size": 2,
        "connect_args": {"connect_timeout": 4, "write_timeout": 9, "ssl": True},
    }


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg", "mysql+pymysql"])
def test_a_server_that_does_not_answer_is_waited_for_and_then_named(scheme: str) -> None:
    [port] = free_ports(1, avoid=set())
    problem = start_problem(f"{scheme}://hub:secret@127.0.0.1:{port}/names", {}, [], wait_seconds=0.1)
    place = f"127.0.0.1:{port}/names"
    assert problem.startswith(f"The hub can't start: its database at {place} could not be used for 0.1 s (")
    assert "Connection refused" in problem
    assert problem.endswith("). Start the database, or correct BINDERY_HUB_DB_URL.")
    assert "secret" not in problem
    assert "\n" not in problem


def test_options_of_a_driver_that_are_unknown_are_said_at_once() -> None:
    problem = start_problem("mysql+pymysql://hub:secret@127.0.0.1/hub?color=red", {}, [], wait_seconds=3600)
    assert "its database at 127.0.0.1/hub can't be used (" in problem
    assert "'color'" in problem


def test_options_of_the_hubs_configuration_are_used(tmp_path: Path) -> None:
    problem = start_problem(sqlite_url(tmp_path / "a"), {"connect_args": {"color": "red"}}, [], wait_seconds=3600)
    assert "'color'" in problem


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    file = tmp_path / "hub.sqlite"
    file.write_bytes(b"x" * 4096)
    problem = start_problem(sqlite_url(file), {}, [], wait_seconds=3600)
    assert problem == (
        f"The hub can't start: its database {file} can't be used (file is not a database). Check this file and the "
        f"disk of the folder {tmp_path}; without the file, the hub begins with a new one."
    )


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    problem = start_problem(sqlite_url(tmp_path / "none" / "hub.sqlite"), {}, [], wait_seconds=3600)
    assert f"its database {tmp_path}/none/hub.sqlite can't be used (unable to open database file)" in problem
    assert problem.endswith(
        f"The folder {tmp_path}/none must exist, and the hub's user ({os.getuid()}) must be able to write to both."
    )


def test_a_locked_file_is_waited_for_and_then_named(tmp_path: Path) -> None:
    file = tmp_path / "hub.sqlite"
    with closing(sqlite3.connect(file)) as other:
        other.execute("BEGIN EXCLUSIVE")
        options = {"connect_args": {"timeout": 0.01}}
        problem = start_problem(sqlite_url(file), options, [], wait_seconds=0.1)
        assert f"its database {file} could not be used for 0.1 s (database is locked)" in problem
        assert problem.endswith("). End the other program that uses this file.")
    assert start_problem(sqlite_url(file), options, [], wait_seconds=0.1) == ""


def test_a_new_database_is_left_without_tables(tmp_path: Path) -> None:
    assert start_problem(sqlite_url(tmp_path / "new"), {}, ["bindery-launcher"], wait_seconds=0.1) == ""
    with closing(sqlite3.connect(tmp_path / "new")) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == []


def test_a_new_database_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "new").touch()
    problem = start_problem(f"sqlite:///file:{tmp_path}/new?mode=ro&uri=true", {}, [], wait_seconds=3600)
    assert (
        f"can't be used (attempt to write a readonly database). The folder {tmp_path} must exist, and the " in problem
    )


class OnFullDisk(sqlite3.Connection):
    """A connection whose file may not grow, of which SQLite says the same as of a full disk."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.execute("PRAGMA max_page_count = 1")


def test_a_file_on_a_full_disk_is_named_with_its_folder(tmp_path: Path) -> None:
    options = {"connect_args": {"factory": OnFullDisk}}
    problem = start_problem(sqlite_url(tmp_path / "new"), options, [], wait_seconds=3600)
    assert f"(database or disk is full). Make room on the disk of the folder {tmp_path}." in problem
