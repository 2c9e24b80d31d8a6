"""Which addresses may be reached on behalf of a stranger."""

import socket
from ipaddress import ip_address

import pytest

from services.common.models.errors import BinderyError
from services.common.net import networks
from services.common.net.networks import NetworkPolicy, is_our_own

PUBLIC = NetworkPolicy()


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.255.0.3", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254",
        "100.64.0.1", "100.100.100.200", "0.0.0.0", "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.0.192",  # noqa: S104
        "198.18.0.1", "192.0.2.1", "168.63.129.16",
        "::", "::1", "fe80::1", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1", "100::1", "5f00::1",
        "::127.0.0.1", "2001::7f00:1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "2002:a9fe:a9fe::1", "64:ff9b::7f00:1",
        "64:ff9b::a00:1", "64:ff9b:1::192.168.0.1", "64:ff9b:1:a00:0:100:808:808", "64:ff9b:1::140.82.121.3",
    ],
)  # fmt: skip
def test_what_is_not_public_is_refused_and_the_host_is_named(address: str) -> None:
    with pytest.raises(BinderyError) as raised:
        PUBLIC.check(address, "repo.example")
    assert raised.value.code == "address_not_allowed"
    assert "repo.example may not be reached" in raised.value.detail
    assert "BINDERY_ALLOWED_NETWORKS" in raised.value.detail
    assert address not in raised.value.detail


@pytest.mark.parametrize(
    "address", ["140.82.121.3", "172.15.0.1", "172.32.0.1", "2606:50c0:8000::153", "::ffff:140.82.121.3",
                "64:ff9b::8c52:7903", "2002:8c52:7903::1", "100.63.0.1"],
)  # fmt: skip
def test_public_addresses_are_reached(address: str) -> None:
    PUBLIC.check(address, "repo.example")


def test_an_operator_opens_networks() -> None:
    policy = NetworkPolicy.of(" 127.0.0.0/8, fd00::/8 ,")
    policy.check("127.0.0.1")
    policy.check("::ffff:127.0.0.1")
    policy.check("fd12::1")
    assert not policy.allows(ip_address("10.0.0.1"))
    assert not policy.allows(ip_address("::1"))


def test_an_operator_opens_a_local_translator_by_its_own_addresses_alone() -> None:
    local = ip_address("64:ff9b:1:a00:0:100:808:808")
    assert not NetworkPolicy.of("8.8.8.8/32,10.0.0.0/8").allows(local)
    assert NetworkPolicy.of("64:ff9b:1::/48").allows(local)


def test_an_operator_closes_public_networks_and_parts_of_open_ones() -> None:
    policy = NetworkPolicy.of("10.0.0.0/8", "10.96.0.0/12, 140.82.121.0/24, 2606:50c0::/32")
    assert policy.allows(ip_address("10.1.0.1"))
    for address in ("10.96.0.1", "140.82.121.3", "::ffff:140.82.121.3", "64:ff9b::8c52:7903", "2606:50c0:8000::153"):
        with pytest.raises(BinderyError) as raised:
            policy.check(address, "repo.example")
        assert raised.value.code == "address_not_allowed"
        assert "its address is in a network that BINDERY_REFUSED_NETWORKS names" in raised.value.detail


def test_addresses_of_this_machine_are_refused_though_they_are_public(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "_REFUSED", [])  # as if loopback were a public address of ours
    for ours in ("127.0.0.1", "::ffff:127.0.0.1"):
        with pytest.raises(BinderyError) as raised:
            PUBLIC.check(ours, "repo.example")
        assert "its address is that of the machine that Bindery runs on" in raised.value.detail
        assert "BINDERY_ALLOWED_NETWORKS" in raised.value.detail
    PUBLIC.check("140.82.121.3")
    NetworkPolicy.of("127.0.0.1/32").check("127.0.0.1")


def test_the_addresses_of_this_machine_are_read_each_time() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("127.0.0.1", 9))
        assert is_our_own(ip_address(probe.getsockname()[0]))
    assert not is_our_own(ip_address("140.82.121.3"))
    assert not is_our_own(ip_address("2606:50c0:8000::153"))


def test_an_invalid_list_is_refused() -> None:
    with pytest.raises(ValueError, match="not appear to be"):
        NetworkPolicy.of("everything")


async def test_of_several_addresses_only_allowed_ones_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async def addresses_of(_host: str, _port: int) -> list[str]:
        return ["10.0.0.7", "140.82.121.3"]

    monkeypatch.setattr(networks, "look_up", addresses_of)
    assert await PUBLIC.addresses("repo.example", 443) == ["140.82.121.3"]


@pytest.mark.parametrize(
    ("errno", "code", "says"),
    [
        (socket.EAI_NONAME, "ref_not_found", "There is no host named nowhere.example"),
        (socket.EAI_AGAIN, "provider_unavailable", "nowhere.example can't be looked up"),
    ],
)
async def test_a_missing_host_is_told_from_a_name_server_that_is_away(
    monkeypatch: pytest.MonkeyPatch, errno: int, code: str, says: str
) -> None:
    def fail(*_args: object, **_kwargs: object) -> None:
        raise socket.gaierror(errno, "no")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(BinderyError) as failed:
        await PUBLIC.addresses("nowhere.example", 80)
    assert failed.value.code == code
    assert says in failed.value.detail
