"""Our own hub with its database in a real PostgreSQL server, named by a URL."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.jupyterhub.database import start_problem
from tests.support.polling import eventually
from tests.support.postgres import Postgres
from tests.support.quick_jupyter import quick_jupyter_wheel
from tests.support.real_hub import HubStack, make_environment, make_image


@pytest.fixture
def stack(postgres: Postgres, tmp_path: Path) -> Iterator[HubStack]:
    """A hub that has not been started; whatever it has, it is ended afterwards."""
    stack = HubStack(tmp_path / "hub", BINDERY_HUB_DB_URL=postgres.url("hub"))
    try:
        yield stack
    finally:
        stack.stop()


def test_a_hub_waits_for_its_database_and_finds_everything_in_it_after_a_restart(
    postgres: Postgres, stack: HubStack, tmp_path: Path
) -> None:
    make_image(stack.data, "quick", make_environment(tmp_path / "quick", str(quick_jupyter_wheel(tmp_path))))
    postgres.stop()
    stack.start_proxy()
    stack.begin_hub()
    waits = f"The hub waits for its database at 127.0.0.1:{postgres.port}/hub ("
    eventually(lambda: waits in stack.log.read_text(), "the hub waits for its database", 60)
    postgres.start()
    eventually(stack.answers, "the hub answers", 60)

    postgres.stop()
    away = stack.call("POST", "users/bea")
    assert (away.status_code, away.json()["message"]) == (503, "The hub's database does not answer")
    postgres.start()
    assert stack.call("POST", "users/bea").status_code == 201

    try:
        stack.serve("ada", "quick")
        replaced = {stack.launcher_token, stack.culler_token}
        assert [stack.call("GET", "users", token=token).status_code for token in replaced] == [200, 200]
        stack.kill_hub()
        stack.launcher_token = stack.env["BINDERY_HUB_API_TOKEN"] = secrets.token_hex(16)
        stack.culler_token = stack.env["BINDERY_CULLER_API_TOKEN"] = secrets.token_hex(16)
        stack.start_hub()
        assert [stack.call("GET", "users", token=token).status_code for token in replaced] == [403, 403]
        known = stack.call("GET", "users", token=stack.culler_token).json()
        assert {user["name"] for user in known} == {"ada", "bea"}
        server = stack.server("ada")
        assert server
        assert server["ready"]
        assert not (stack.data / "hub" / "jupyterhub.sqlite").exists()
        assert postgres.password not in stack.log.read_text()
    finally:
        eventually(lambda: stack.call("DELETE", "users/ada").status_code in (204, 404), "server and user are gone")


def test_a_hub_whose_database_refuses_its_password_ends_with_a_sentence(postgres: Postgres, stack: HubStack) -> None:
    stack.env["BINDERY_HUB_DB_URL"] = postgres.url("hub", password="not/this")
    stack.begin_hub()
    assert stack.hub
    assert stack.hub.wait(60) == 1
    log = stack.log.read_text()
    assert log.splitlines()[-1].startswith(
        f"The hub can't start: its database at 127.0.0.1:{postgres.port}/hub can't be used (connection failed: "
    )
    assert 'password authentication failed for user "hub"). Correct BINDERY_HUB_DB_URL, or what ' in log
    assert "Traceback" not in log
    assert "not/this" not in log


def test_a_user_who_may_not_make_tables_is_told_so(postgres: Postgres) -> None:
    postgres.make_database("other", owner="other")
    sentence = start_problem(postgres.url("hub", database="other"), {}, [], wait_seconds=3600)
    assert "/other can't be used (permission denied for schema public). Correct BINDERY_HUB_DB_URL" in sentence


@pytest.mark.parametrize(
    ("user", "database", "reason"),
    [("nobody", "hub", 'authentication failed for user "nobody"'), ("hub", "no", 'database "no" does not exist')],
)
def test_a_login_that_is_refused_is_not_waited_for(postgres: Postgres, user: str, database: str, reason: str) -> None:
    """If it were waited for, the test's own deadline would end it."""
    sentence = start_problem(postgres.url(user, database=database), {}, [], wait_seconds=3600)
    assert f"127.0.0.1:{postgres.port}/{database} can't be used (" in sentence
    assert reason in sentence
    assert postgres.password not in sentence
