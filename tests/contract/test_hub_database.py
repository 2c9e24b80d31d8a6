"""A real JupyterHub and its database, which outlives releases."""

import os
import secrets
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.support.paths import CHECKOUT
from tests.support.polling import eventually
from tests.support.quick_jupyter import quick_jupyter_wheel
from tests.support.real_hub import HUB_PYTHON, HubStack, make_environment, make_image

CONFIG = CHECKOUT / "deploy" / "jupyterhub" / "jupyterhub_config.py"


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[HubStack]:
    """A hub that has not been started."""
    stack = HubStack(tmp_path / "hub")
    try:
        yield stack
    finally:
        stack.stop()


def database_of(stack: HubStack) -> Path:
    return stack.data / "hub" / "jupyterhub.sqlite"


def rows(database: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(query).fetchall()


def revision(database: Path) -> object:
    ((version,),) = rows(database, "SELECT version_num FROM alembic_version")
    return version


def downgrade(stack: HubStack) -> None:
    """Give the database the schema before the newest one, by JupyterHub's own scripts."""
    folder = stack.folder / "downgrade"
    folder.mkdir()
    (folder / "jupyterhub_config.py").write_text(f"c.JupyterHub.db_url = {f'sqlite:///{database_of(stack)}'!r}\n")
    command = [str(HUB_PYTHON), "-m", "jupyterhub.dbutil", "alembic", "downgrade", "-1"]
    subprocess.run(command, cwd=folder, env=stack.env, check=True)


def token_of(stack: HubStack, user: str) -> str:
    """Make a token of a user's own by JupyterHub's command."""
    command = [str(HUB_PYTHON), "-m", "jupyterhub", "token", "--config", str(CONFIG), user]
    made = subprocess.run(command, cwd=stack.folder, env=stack.env, check=True, capture_output=True, text=True)
    return made.stdout.split()[-1]


def kill_hub_and_culler(stack: HubStack) -> None:
    """End both at once. A hub that is asked to stop may start its culler anew meanwhile, and then does not end."""
    stack.kill_hub()
    listing = subprocess.run(["ps", "-axeww", "-o", "pid=,args="], capture_output=True, text=True, check=True).stdout
    for line in listing.splitlines():
        if "jupyterhub_idle_culler" in line and f"JUPYTERHUB_API_URL={stack.api} " in line:
            with suppress(ProcessLookupError):
                os.kill(int(line.split()[0]), signal.SIGKILL)


def test_a_database_of_an_older_jupyterhub_is_upgraded_and_a_copy_of_it_kept(stack: HubStack) -> None:
    stack.start()
    assert stack.call("POST", "users/ada").status_code == 201
    stack.stop()
    database = database_of(stack)
    newest = revision(database)
    downgrade(stack)
    older = revision(database)
    assert older != newest

    stack.start()
    assert [user["name"] for user in stack.call("GET", "users").json()] == ["ada"]
    assert revision(database) == newest
    (copy,) = database.parent.glob("jupyterhub.sqlite.????-??-??-??????")
    assert revision(copy) == older
    assert rows(copy, "SELECT name FROM users") == [("ada",)]


def test_a_replaced_token_of_a_service_is_refused_and_everything_else_stays(stack: HubStack, tmp_path: Path) -> None:
    quick = make_environment(tmp_path / "quick", str(quick_jupyter_wheel(tmp_path)))
    make_image(stack.data, "quick", quick)
    stack.start()
    try:
        stack.serve("bea", "quick")
        assert stack.call("POST", "users/cem").status_code == 201
        replaced = {stack.launcher_token, stack.culler_token}
        assert [stack.call("GET", "users", token=token).status_code for token in replaced] == [200, 200]
        stack.kill_hub()

        stack.launcher_token = stack.env["BINDERY_HUB_API_TOKEN"] = secrets.token_hex(16)
        stack.culler_token = stack.env["BINDERY_CULLER_API_TOKEN"] = secrets.token_hex(16)
        stack.start_hub()
        assert [stack.call("GET", "users", token=token).status_code for token in replaced] == [403, 403]
        assert stack.call("GET", "users", token=stack.culler_token).status_code == 200
        assert {user["name"] for user in stack.call("GET", "users").json()} == {"bea", "cem"}
        server = stack.server("bea")
        assert server
        assert server["ready"]
    finally:
        eventually(lambda: stack.call("DELETE", "users/bea").status_code in (204, 404), "server and user are gone")


def test_a_culler_that_the_hub_runs_has_a_new_token_at_each_start(tmp_path: Path) -> None:
    stack = HubStack(tmp_path / "hub", BINDERY_CULLER_API_TOKEN="", BINDERY_CULL_EVERY_SECONDS="1")

    def used_token() -> object:
        """Return the hash of the only token that the hub knows of its culler, once a call has come with it."""
        query = "SELECT hashed, api_tokens.last_activity FROM api_tokens JOIN services ON services.id = service_id"
        ((token, last_used),) = rows(database_of(stack), f"{query} WHERE services.name = 'bindery-culler'")
        return last_used and token

    try:
        stack.start()
        first = eventually(used_token, "the hub accepts its culler's token")
        kill_hub_and_culler(stack)
        stack.start_hub()
        assert eventually(used_token, "the hub accepts its culler's token, again") != first
    finally:
        kill_hub_and_culler(stack)
        stack.stop()


def test_commands_that_read_the_hubs_configuration_leave_the_tokens_of_a_running_hub(stack: HubStack) -> None:
    stack.start()
    assert stack.call("POST", "users/eve").status_code == 201
    assert stack.call("GET", "user", token=token_of(stack, "eve")).json()["name"] == "eve"
    assert stack.call("GET", "users").status_code == 200


def test_an_authenticator_that_fails_costs_the_user_the_rights_as_in_any_hub(stack: HubStack, tmp_path: Path) -> None:
    config = tmp_path / "config.py"
    config.write_text(
        "from jupyterhub.auth import NullAuthenticator\n"
        "class Failing(NullAuthenticator):\n"
        "    async def refresh_user(self, user, handler=None):\n"
        "        raise RuntimeError('no answer')\n"
        "c.JupyterHub.authenticator_class = Failing\n"
    )
    stack.env["BINDERY_HUB_CONFIG_FILE"] = str(config)
    stack.start()
    assert stack.call("POST", "users/ada").status_code == 201
    assert stack.call("GET", "user", token=token_of(stack, "ada")).status_code == 403
    assert "RuntimeError: no answer" in stack.log.read_text()
