"""A database that is there and of no use: a hub, or a connection, waits for it no longer than it may."""

import contextlib
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import PIPE, Popen

import httpx
import psycopg
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from deploy.jupyterhub.database import with_timeouts
from tests.support.far_redis import PORT, FarNetwork
from tests.support.paths import CHECKOUT
from tests.support.polling import eventually
from tests.support.postgres import Postgres
from tests.support.real_hub import HubStack

RELAY = """
import signal, sys, pathlib
from tests.support.tcp_proxy import relay

with relay(pathlib.Path(sys.argv[1]), listen=(sys.argv[2], int(sys.argv[3]))) as address:
    print(address, flush=True)
    signal.pause()
"""


@contextlib.contextmanager
def beyond_a_cable(postgres: Postgres, folder: Path) -> Iterator[FarNetwork]:
    """Let the server be reached by a network whose connections can be cut."""
    network = FarNetwork(folder)
    socket = postgres.folder / f".s.PGSQL.{postgres.port}"
    command = network.command([sys.executable, "-c", RELAY, str(socket), network.address, str(PORT)])
    with network.up(), Popen(command, cwd=CHECKOUT, stdout=PIPE) as relay:
        try:
            assert relay.stdout
            assert relay.stdout.readline(), "the relay listens"
            yield network
        finally:
            relay.kill()


@pytest.mark.timeout(60)
def test_a_connection_to_a_server_that_has_vanished_is_given_up(postgres: Postgres, tmp_path: Path) -> None:
    """One sends a query that nothing acknowledges; the other's query was acknowledged, and its answer never comes."""
    with beyond_a_cable(postgres, tmp_path) as network, ThreadPoolExecutor() as threads:
        url = postgres.url("hub", place=f"{network.address}:{PORT}")
        engine = create_engine(url, **with_timeouts(url, {"connect_args": {"options": ""}}, 2))
        with engine.connect() as idle, engine.connect() as waiting:
            idle.execute(text("SELECT 1"))
            answer = threads.submit(waiting.execute, text("SELECT pg_sleep(1000)"))
            asked = "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query = 'SELECT pg_sleep(1000)'"
            eventually(lambda: postgres.rows(asked), "the server has the query")
            assert network.cut() == 2
            with pytest.raises(OperationalError) as unsent:
                idle.execute(text("SELECT 1"))
            with pytest.raises(OperationalError) as unanswered:
                answer.result()
            assert [unsent.value.connection_invalidated, unanswered.value.connection_invalidated] == [True, True]


@contextlib.contextmanager
def locked_tokens(postgres: Postgres) -> Iterator[None]:
    """Let nobody else read the hub's tokens for the length of the block."""
    with psycopg.connect(postgres.url("admin")) as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'hub'")
        connection.execute("LOCK TABLE api_tokens")
        yield


def test_a_hub_waits_for_a_standby_and_not_for_a_lock(postgres: Postgres, tmp_path: Path) -> None:
    stack = HubStack(tmp_path / "hub", BINDERY_HUB_DB_URL=postgres.url("hub"), BINDERY_HUB_DB_TIMEOUT_SECONDS="1")
    stack.env["BINDERY_HUB_API_TOKEN"] += "\n"  # as in a Secret that was made from a file
    admin = postgres.url("admin", database="postgres")
    try:
        with psycopg.connect(admin, autocommit=True) as connection:
            connection.execute("ALTER ROLE hub SET default_transaction_read_only = on")
            stack.start_proxy()
            stack.begin_hub()
            waits = "/hub (cannot execute CREATE TABLE in a read-only transaction)."
            eventually(lambda: waits in stack.log.read_text(), "the hub waits for its database", 60)
            connection.execute("ALTER ROLE hub RESET default_transaction_read_only")
        eventually(stack.answers, "the hub answers", 60)
        assert stack.call("GET", "users").status_code == 200

        with locked_tokens(postgres):
            refused = stack.call("GET", "users")
            assert (refused.status_code, refused.json()["message"]) == (503, "The hub's database does not answer")
            headers = {"Authorization": f"token {stack.launcher_token}"}
            page = httpx.get(f"http://127.0.0.1:{stack.hub_port}/hub/metrics", headers=headers, timeout=30)
            assert page.status_code == 503
            assert "database does not answer" in page.text
        assert stack.call("GET", "users").status_code == 200
    finally:
        stack.stop()
