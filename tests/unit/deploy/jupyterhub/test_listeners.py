"""Whose port it is that answers, by what the system says of its processes."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from deploy.jupyterhub.listeners import listening_ports
from deploy.jupyterhub.processes import Identity, identify
from deploy.jupyterhub.server_ports import server_ports

LISTENS = """
import socket, sys
family, host = sys.argv[1:]
one = socket.socket(getattr(socket, family)); one.bind((host, 0)); one.listen()
print(one.getsockname()[1], flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("family", "host", "counts"),
    [
        ("AF_INET", "127.0.0.1", True), ("AF_INET", "", True), ("AF_INET6", "::", True),
        ("AF_INET", "127.0.0.2", False), ("AF_INET6", "::1", False),
    ],
)  # fmt: skip
def test_a_port_counts_where_127_0_0_1_leads_to_it(family: str, host: str, counts: bool) -> None:
    command = [sys.executable, "-c", LISTENS, family, host]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        assert listening_ports(process.pid) == ([port] if counts else [])
        assert port not in listening_ports(os.getpid())
        process.communicate()
    assert listening_ports(process.pid) == []


def test_a_bound_or_connected_socket_does_not_listen() -> None:
    before = set(listening_ports(os.getpid()))
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        with socket.create_connection(server.getsockname()):
            assert set(listening_ports(os.getpid())) - before == {server.getsockname()[1]}


def _connection(ip: str, port: int, status: str) -> SimpleNamespace:
    return SimpleNamespace(laddr=SimpleNamespace(ip=ip, port=port), status=status)


def test_addresses_that_127_0_0_1_does_not_lead_to_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    connections = [
        _connection("127.0.0.1", 8888, psutil.CONN_LISTEN),
        _connection("::1", 8889, psutil.CONN_LISTEN),
        _connection("::", 5006, psutil.CONN_LISTEN),
        _connection("192.168.1.5", 22, psutil.CONN_LISTEN),
        _connection("127.0.0.1", 9, psutil.CONN_ESTABLISHED),
    ]
    monkeypatch.setattr(psutil.Process, "net_connections", lambda _process, _kind: connections)
    assert listening_ports(os.getpid()) == [5006, 8888]


class Session:
    """This very process as a server, and what its runtime folder says."""

    def __init__(self, folder: Path) -> None:
        self.run = str(folder)
        self.runtime = folder / "runtime"
        self.runtime.mkdir()
        me = identify(os.getpid())
        assert me is not None
        self.leader = me

    def writes_down(self, pid: int, port: int, name: str = "jpserver-1.json") -> None:
        (self.runtime / name).write_text(f'{{"pid": {pid}, "port": {port}}}')

    @property
    def ports(self) -> list[int]:
        return server_ports(self.leader, self.run, self.runtime)


def test_a_port_that_is_written_down_counts_once_its_process_listens_there(tmp_path: Path) -> None:
    session = Session(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as other:
        session.writes_down(os.getpid(), 1)
        assert session.ports == []
        session.writes_down(os.getpid(), other.getsockname()[1])
        assert session.ports == [other.getsockname()[1]]


@pytest.mark.parametrize("name", ["jpserver-1.json", "nbserver-1.json"])
def test_a_server_that_writes_down_0_is_asked_what_it_listens_at(tmp_path: Path, name: str) -> None:
    session = Session(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as server:
        session.writes_down(os.getpid(), 0, name)
        assert server.getsockname()[1] in session.ports


def test_a_port_written_down_by_a_process_outside_the_session_does_not_count(tmp_path: Path) -> None:
    session = Session(tmp_path)
    command = [sys.executable, "-c", LISTENS, "AF_INET", "127.0.0.1"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        session.writes_down(process.pid, port)
        assert session.ports == [port]  # a child is of the session
        session.leader = Identity(1, "another time")
        assert session.ports == []
        process.communicate()


def test_half_a_file_is_read_again_later(tmp_path: Path) -> None:
    session = Session(tmp_path)
    (session.runtime / "jpserver-1.json").write_text('{"pid": 1, ')
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert server.getsockname()[1] in session.ports  # as if nothing were written down
