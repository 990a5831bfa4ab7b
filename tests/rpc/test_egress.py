"""Where requests to addresses that users gave may go."""

import ipaddress
import socket

import pytest

from server.kit.egress import Egress, Forbidden, NameUnknown, embedded, is_public


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
        *("224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fc00::1", "ff02::1", "2001:db8::1"),
        *("::ffff:10.0.0.1", "64:ff9b::10.0.0.1", "2002:0a00:0001::1", "2001::1"),
        *("fec0::1", "64:ff9b:1::10.0.0.1", "::10.0.0.1"),
    ],
)
async def test_inner_addresses_are_forbidden(address: str) -> None:
    with pytest.raises(Forbidden, match="address_not_public"):
        await Egress([]).pin("https", address, 443)


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700:4700::1111", "::ffff:1.1.1.1", "64:ff9b::1.1.1.1"])
async def test_public_ones_are_called_by_tls_alone(address: str) -> None:
    assert is_public(embedded(ipaddress.ip_address(address)))
    assert len((await Egress([]).pin("https", address, 443)).addresses) == 1
    with pytest.raises(Forbidden, match="not_https"):
        await Egress([]).pin("http", address, 80)


async def test_an_allowed_network_is_reached_either_way_and_another_is_not() -> None:
    egress = Egress(["10.0.0.0/8", "fd00::/8"])
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "fd00::7"):
        await egress.pin("http", address, 80)
    with pytest.raises(Forbidden):
        await egress.pin("http", "127.0.0.1", 80)


async def test_a_connection_goes_to_the_address_that_was_looked_at() -> None:
    """The name may mean something else by then; nobody asks again."""
    pinned = await Egress(["127.0.0.0/8", "::1"]).pin("http", "localhost", 80)
    connector = pinned.connector()
    resolver = connector._resolver
    found = await resolver.resolve("localhost", 80, socket.AF_UNSPEC)
    assert {item["host"] for item in found} == set(pinned.addresses) <= {"127.0.0.1", "::1"}
    with pytest.raises(OSError, match="another host"):
        await resolver.resolve("elsewhere.example", 80)
    await connector.close()


async def test_a_name_that_nobody_has_is_no_reason_to_give_up() -> None:
    with pytest.raises(NameUnknown):
        await Egress([]).pin("https", "nobody.invalid", 443)
