"""The rules of docs/compose.md that keep containers away from an institute's networks, by the packets that pass.

The page's commands run as they are, in a router with an `eth0`, between a client in a container's place and a server.
"""

import os
import socket
from collections.abc import Iterator

import pytest

from tests.support.page_commands import commands, section
from tests.support.routed_network import CLIENT, SERVER, RoutedNetwork, routed_network

COMMANDS = "\n".join(commands(section("compose.md", "## Who may reach it")))
PRIVATE = ("10.20.0.2", "169.254.169.254", "172.31.0.2", "192.168.1.1")
"""One of each network that the rules are about: clouds, institutes and routers at home have name servers in them."""
ISOLATED = "10.20.0.99"
"""An address that rules of Docker's own refuse."""
CHAINS = f"""
iptables -N DOCKER-USER
iptables -A FORWARD -j DOCKER-USER
iptables -A FORWARD -d {ISOLATED} -j REJECT
"""
"""What Docker has made before: users' rules go first."""


@pytest.fixture
def network() -> Iterator[RoutedNetwork]:
    """What there is before the page's commands."""
    assert os.geteuid() == 0, "network namespaces need root: run this tier as root, as CI does"
    with routed_network([*PRIVATE, ISOLATED]) as network:
        network.run("router", "sh", "-ec", CHAINS)
        yield network


@pytest.fixture
def firewall(network: RoutedNetwork) -> RoutedNetwork:
    network.run("router", "sh", "-ec", COMMANDS)
    return network


def connect(network: RoutedNetwork, address: str, port: int) -> None:
    """Let the client connect to the server, which listens. Raises ConnectionRefusedError if a rule rejects that."""
    with network.listening("server", address, port), network.socket_in("client") as client:
        client.connect((address, port))


def test_before_the_rules_private_networks_are_reached(network: RoutedNetwork) -> None:
    for address in PRIVATE:
        connect(network, address, 80)


def test_private_networks_are_refused_and_the_internet_is_reached(firewall: RoutedNetwork) -> None:
    for address in PRIVATE:
        with pytest.raises(ConnectionRefusedError):
            connect(firewall, address, 80)
    connect(firewall, SERVER, 80)


def test_name_servers_in_private_networks_are_reached_by_tcp(firewall: RoutedNetwork) -> None:
    for address in PRIVATE:
        connect(firewall, address, 53)


def test_name_servers_in_private_networks_answer_by_udp(firewall: RoutedNetwork) -> None:
    for address in PRIVATE:
        with (
            firewall.socket_in("server", socket.SOCK_DGRAM) as name_server,
            firewall.socket_in("client", socket.SOCK_DGRAM) as client,
        ):
            name_server.bind((address, 53))
            client.connect((address, 53))
            client.send(b"question")
            _, asker = name_server.recvfrom(100)
            name_server.sendto(b"answer", asker)
            assert client.recv(100) == b"answer"


def test_an_address_that_gets_a_rule_of_its_own_afterwards_is_reached(firewall: RoutedNetwork) -> None:
    [rule] = [command for command in COMMANDS.splitlines() if "REJECT" in command]
    firewall.run("router", "sh", "-ec", rule.replace('"$network"', PRIVATE[0]).replace("REJECT", "RETURN"))
    connect(firewall, PRIVATE[0], 80)


def test_browsers_in_private_networks_get_answers(firewall: RoutedNetwork) -> None:
    with firewall.listening("client", CLIENT, 8000) as listener:
        for address in PRIVATE:
            with firewall.socket_in("server") as browser:
                browser.bind((address, 0))
                browser.connect((CLIENT, 8000))
                accepted, _ = listener.accept()
                with accepted:
                    accepted.sendall(b"answer")
                assert browser.recv(100) == b"answer"


def test_what_dockers_own_rules_refuse_stays_refused(firewall: RoutedNetwork) -> None:
    with pytest.raises(ConnectionRefusedError):
        connect(firewall, ISOLATED, 53)
