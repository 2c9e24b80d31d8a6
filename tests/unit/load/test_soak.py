"""The soak's judgement: what it takes for growth, and which launches it takes for wrong."""

import os
import socket
from pathlib import Path

import pytest

from tests.load.processes import accepted_connections, file_handles, tcp_connections, unix_connections
from tests.load.soak_launches import LINES, SoakLaunch
from tests.load.soak_samples import Sample, rows
from tests.load.stub_hub import StubHub


def failed(*series: float, measure: str = "RSS") -> int:
    samples = [Sample(numbers={("gateway-2", measure): number}) for number in series]
    return sum(row.failed for row in rows(samples))


def test_growth_of_more_than_a_twentieth_fails_and_the_warm_up_does_not_count() -> None:
    assert not failed(50, 100, 100, 101, 103, 104, 104)
    assert failed(50, 100, 100, 103, 105, 107, 109)
    assert not failed(100, 90, 80, 70)
    assert failed(100)  # nothing to compare


def test_what_is_few_may_grow_by_one_and_a_pool_up_to_its_size() -> None:
    assert not failed(10, 12, 12, 13, measure="tasks")
    assert failed(10, 12, 12, 14, measure="tasks")
    assert not failed(8, 9, 9, 10)
    assert failed(8, 9, 9, 10.1)
    assert not failed(3, 4, 10, 26, measure="connections")
    assert failed(3, 4, 10, 27, measure="connections")


def test_connections_to_unix_sockets_are_told_from_those_that_others_opened(tmp_path: Path) -> None:
    pid = os.getpid()
    handles = file_handles(pid)
    connections = unix_connections(pid)
    accepted_before = accepted_connections(pid)
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(tmp_path / "server.sock"))
        server.listen()
        client.connect(str(tmp_path / "server.sock"))
        accepted, _ = server.accept()
        with accepted:
            assert unix_connections(pid) == connections + 1
            assert accepted_connections(pid) == accepted_before + 1
            assert file_handles(pid) == handles + 3


def test_connections_by_tcp_are_told_from_what_listens() -> None:
    pid = os.getpid()
    connections = tcp_connections(pid)
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert tcp_connections(pid) == connections
        with socket.create_connection(server.getsockname()), server.accept()[0]:
            assert tcp_connections(pid) == connections + 2


def a_launch(kind: str, lines: int, *, phase: str = "ready", code: str = "") -> SoakLaunch:
    launch = SoakLaunch(kind, "a spec", [])
    launch.text = "".join(f"line {number + 1}\n" for number in range(lines))
    launch.ids = [f"l~{number}" for number in range(lines)]
    launch.terminal = {"phase": phase}
    launch.code = code
    return launch


@pytest.mark.parametrize(
    ("launch", "problem"),
    [
        (a_launch("cold", LINES["cold"]), ""),
        (a_launch("warm", 0), ""),
        (a_launch("failing", LINES["failing"], phase="failed", code="build_failed"), ""),
        (a_launch("failing", LINES["failing"], phase="failed", code="build_lost"), "ended"),
        (a_launch("cold", LINES["cold"] - 1), "of 40 lines"),
        (a_launch("cancelled", 7), "ended"),
    ],
)
def test_a_launch_must_end_as_its_kind_does_with_all_its_lines(launch: SoakLaunch, problem: str) -> None:
    launch.check()
    assert problem in "".join(launch.problems)
    assert bool(launch.problems) == bool(problem)


def test_an_event_or_a_line_that_comes_twice_is_noted() -> None:
    launch = a_launch("warm", 2)
    launch.ids.append(launch.ids[0])
    launch.text += "line 2\n"
    launch.check()
    assert [problem.split(":")[0] for problem in launch.problems] == ["1 events twice", "lines lost or twice"]


def test_the_stub_hub_counts_the_starts_of_a_server_and_lets_it_take_a_while() -> None:
    hub = StubHub(ready_after_seconds=60)
    hub.handle("POST", "/hub/api/users/ann", b"", b"")
    assert hub.handle("POST", "/hub/api/users/ann/servers/", b"", b"{}")[0] == 202
    assert hub.handle("POST", "/hub/api/users/ann/servers/", b"", b"{}")[0] == 400
    assert b'"pending": "spawn"' in hub.handle("GET", "/hub/api/users/ann", b"", b"")[2]
    assert b"ready" not in hub.handle("GET", "/hub/api/users/ann/server/progress", b"", b"")[2]
    assert hub.handle("GET", "/hub/api/starts", b"", b"")[2] == b'{"ann": 1}'
