"""The addresses at which a running stack listens, and that no other process can take them."""

import errno
from urllib.parse import urlsplit

import httpx
import pytest

from deploy.jupyterhub.listeners import listening_ports
from tests.support.polling import eventually
from tests.support.ports import ADDRESSES, steal
from tests.support.small_stack import is_running
from tests.support.stack import Stack


def ports_of(stack: Stack) -> dict[str, int]:
    """Return the TCP ports of a stack, by the part that serves them."""
    hub = stack.environment("hub")
    return {
        "gateway": stack.port,
        "hub": int(hub["BINDERY_HUB_PORT"]),
        "proxy": urlsplit(hub["BINDERY_HUB_BIND_URL"]).port or 0,
        "proxy's API": urlsplit(hub["BINDERY_PROXY_API_URL"]).port or 0,
    }


def is_nobody_elses(number: int) -> bool:
    """Return whether another process is refused the port, wherever a client of localhost might look for it."""
    tries = [steal(family, address, number, reuse=reuse) for family, address in ADDRESSES for reuse in (False, True)]
    return set(tries) == {errno.EADDRINUSE}


def test_four_ports_are_all_that_listens_and_each_is_the_stack_s_own(stack: Stack) -> None:
    ports = ports_of(stack)
    for part, pid in stack.parts().items():
        assert set(listening_ports(pid)) == set(ports.values()), part  # a part that holds them all would outlive `up`
    assert {name: is_nobody_elses(number) for name, number in ports.items()} == dict.fromkeys(ports, True)


@pytest.mark.parametrize("part", ["hub", "proxy"])
def test_the_port_of_a_killed_part_is_nobody_else_s_and_who_asks_waits_for_it(stack: Stack, part: str) -> None:
    number = ports_of(stack)[part]
    pid = stack.kill(part)
    eventually(lambda: not is_running(pid), f"the end of {part}")
    assert is_nobody_elses(number)
    url = f"http://127.0.0.1:{number}/hub/api/"  # asked of a part that is not back yet
    reply = httpx.get(url, timeout=60, trust_env=False)
    assert reply.status_code == 200 or (part, reply.status_code) == ("proxy", 404)  # it has not read its routes yet
    stack.until_replaced(part, pid)
    assert is_nobody_elses(number)
    eventually(stack.hub_answers, "the hub")
