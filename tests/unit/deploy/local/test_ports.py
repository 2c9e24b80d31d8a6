"""Ports that are held by any process of the stack that is left, and by no other."""

import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from deploy.local.ports import HeldPort, Ports, check_ports, hold, hold_any, hold_ports, is_free
from deploy.local.settings import CHECKOUT, Settings, StartupError
from tests.support.ports import ADDRESSES, free_ports, steal

ANSWERS = """
import os, socket, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
assert os.environ["LISTEN_PID"] == str(os.getpid()), os.environ
assert (os.environ["LISTEN_FDS"], os.environ["LISTEN_FDNAMES"]) == ("1", "http")
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "2"); self.end_headers(); self.wfile.write(b"me")
server = HTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=False)
server.socket = socket.socket(fileno=3)
print("here", flush=True)
server.serve_forever()
"""


@pytest.fixture
def port() -> Iterator[HeldPort]:
    held_port = hold_any()
    yield held_port
    held_port.close()


@contextmanager
def part(port: HeldPort) -> Iterator[subprocess.Popen[str]]:
    """A part that serves the port, once it is there."""
    command = port.handed_over("http", (sys.executable, "-c", ANSWERS))
    descriptors = [sock.fileno() for sock in port.sockets]
    process = subprocess.Popen(command, pass_fds=descriptors, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        assert process.stdout.readline() == "here\n", process.stderr.read()
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


@pytest.mark.parametrize("reuse", [False, True])
@pytest.mark.parametrize(("family", "address"), ADDRESSES)
def test_nobody_else_can_have_a_held_port(
    port: HeldPort, family: socket.AddressFamily, address: str, reuse: bool
) -> None:
    assert steal(family, address, port.number, reuse=reuse) == errno.EADDRINUSE
    assert not is_free("127.0.0.1", port.number)


def test_a_client_of_localhost_reaches_the_part_whichever_address_it_tries_first(port: HeldPort) -> None:
    with part(port):
        assert httpx.get(f"http://localhost:{port.number}/", trust_env=False).text == "me"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("::1", port.number), timeout=5)


def test_a_client_that_connects_while_a_part_is_down_is_answered_when_it_is_back(port: HeldPort) -> None:
    with part(port):
        pass
    with socket.create_connection(("127.0.0.1", port.number), timeout=20) as waiting:
        waiting.sendall(b"GET / HTTP/1.0\r\n\r\n")
        with part(port):
            assert waiting.recv(100).startswith(b"HTTP/1.0 200")


def test_a_part_that_is_left_still_holds_the_ports(port: HeldPort) -> None:
    with part(port) as process:
        port.close()
        for family, address in ADDRESSES:
            assert steal(family, address, port.number, reuse=True) == errno.EADDRINUSE
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert is_free("127.0.0.1", port.number)


def test_a_port_that_somebody_has_at_one_address_only_is_not_free() -> None:
    (number,) = free_ports(1, avoid=set())
    for address in ("127.0.0.1", "::1"):
        with socket.create_server((address, number), family=socket.AF_INET6 if ":" in address else socket.AF_INET):
            assert not is_free("127.0.0.1", number)
            with pytest.raises(StartupError) as raised:
                check_ports(Settings(port=number))
        assert str(raised.value) == (
            f"Port {number} of {address} is in use: end what listens there, or set BINDERY_PORT (now {number}) to "
            f"another port, as in `BINDERY_PORT={number + 1000} make up`."
        )
    assert is_free("127.0.0.1", number)


def test_another_loopback_address_has_ports_of_its_own(port: HeldPort) -> None:
    other = hold("127.0.0.2", port.number)
    assert len(other.sockets) == 1
    other.close()


def test_a_stack_holds_all_its_ports_and_lets_go_of_them_together() -> None:
    first = next(n for n in free_ports(50, avoid=set()) if is_free("127.0.0.1", n + 1))
    with hold_ports(Settings(port=first, gateways=2)) as ports:
        numbers = numbers_of(ports)
        assert numbers[:2] == [first, first + 1]
        assert len(set(numbers)) == 5
        assert len(ports.descriptors) in {5, 10}
        assert not any(is_free("127.0.0.1", number) for number in numbers)
    assert all(is_free("127.0.0.1", number) for number in numbers)


@pytest.mark.parametrize(
    ("without", "released"), [("gateway", {0, 1}), ("proxy", {2, 3}), ("hub", {4}), ("redis", set())]
)
def test_the_ports_of_a_component_that_is_left_out_are_chosen_and_free(without: str, released: set[int]) -> None:
    first = next(n for n in free_ports(50, avoid=set()) if is_free("127.0.0.1", n + 1))
    with hold_ports(Settings(port=first, gateways=2), {without}) as ports:
        numbers = numbers_of(ports)
        assert numbers[:2] == [first, first + 1]
        assert len(set(numbers)) == 5
        assert {at for at, number in enumerate(numbers) if is_free("127.0.0.1", number)} == released
        port = ports.gateways[0]
        command = ("a", "command")
        assert (port.handed_over("http", command) == command) is (without == "gateway")


def test_a_stack_that_can_not_have_its_second_gateway_s_port_keeps_none() -> None:
    first = next(n for n in free_ports(50, avoid=set()) if is_free("127.0.0.1", n + 1))
    with (
        socket.create_server(("127.0.0.1", first + 1)),
        pytest.raises(StartupError, match=f"Port {first + 1} of 127.0.0.1"),
    ):
        hold_ports(Settings(port=first, gateways=2)).__enter__()
    assert is_free("127.0.0.1", first)


def test_a_program_that_is_missing_ends_its_part(port: HeldPort) -> None:
    command = port.handed_over("http", ("/missing/program",))
    descriptors = [sock.fileno() for sock in port.sockets]
    result = subprocess.run(command, pass_fds=descriptors, capture_output=True, text=True, check=False, cwd=CHECKOUT)
    assert result.returncode != 0
    assert "/missing/program" in result.stderr or "No such file" in result.stderr


def numbers_of(ports: Ports) -> list[int]:
    return [port.number for port in (*ports.gateways, ports.proxy, ports.proxy_api, ports.hub)]


def test_descriptors_leave_room_for_those_that_a_part_gets(port: HeldPort) -> None:
    assert all(sock.fileno() >= 64 and not os.get_inheritable(sock.fileno()) for sock in port.sockets)


@pytest.mark.parametrize("lacks", ["the protocol", "the address"])
def test_a_machine_without_ipv6_holds_what_it_has(monkeypatch: pytest.MonkeyPatch, lacks: str) -> None:
    def without(family: socket.AddressFamily) -> socket.socket:
        if family == socket.AF_INET6 and lacks == "the protocol":
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return NoSuchAddress(family) if family == socket.AF_INET6 else socket.socket(family)

    monkeypatch.setattr("deploy.local.ports._open_socket", without)
    held_port = hold_any()
    assert len(held_port.sockets) == 1
    held_port.close()


class NoSuchAddress(socket.socket):
    def bind(self, address: object) -> None:
        raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
