"""What is wrong with the hub's database is said in one sentence, which never has the password."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from deploy.jupyterhub.database import database_url, start_problem, url_problem
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
    assert problem.startswith(f"The hub can't start: its database {file} can't be used (file is not a database). ")


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    problem = start_problem(sqlite_url(tmp_path / "none" / "hub.sqlite"), {}, [], wait_seconds=3600)
    assert f"its database {tmp_path}/none/hub.sqlite can't be used (unable to open database file)" in problem


def test_a_locked_file_is_waited_for_and_then_named(tmp_path: Path) -> None:
    file = tmp_path / "hub.sqlite"
    with closing(sqlite3.connect(file)) as other:
        other.execute("BEGIN EXCLUSIVE")
        options = {"connect_args": {"timeout": 0.01}}
        problem = start_problem(sqlite_url(file), options, [], wait_seconds=0.1)
        assert f"its database {file} could not be used for 0.1 s (database is locked)" in problem
    assert start_problem(sqlite_url(file), options, [], wait_seconds=0.1) == ""


def test_a_new_database_is_left_without_tables(tmp_path: Path) -> None:
    assert start_problem(sqlite_url(tmp_path / "new"), {}, ["bindery-launcher"], wait_seconds=0.1) == ""
    with closing(sqlite3.connect(tmp_path / "new")) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == []


def test_a_new_database_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "new").touch()
    problem = start_problem(f"sqlite:///file:{tmp_path}/new?mode=ro&uri=true", {}, [], wait_seconds=3600)
    assert "can't be used (attempt to write a readonly database). Correct BINDERY_HUB_DB_URL, or what " in problem
