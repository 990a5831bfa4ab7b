"""Requests to addresses that a user of the installation gave: never to what only the installation itself can reach.

A name is resolved once, every address it has is looked at, and the connection goes to one of these: a name that means something
else a moment later (DNS rebinding) changes nothing. Redirects are the caller's to refuse.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
# RFC 6052: the last four bytes of such an address are one of IPv4, which a gateway reaches.
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# RFC 4291: all that IANA gives out of IPv6. Beyond it are site-local addresses, local NAT64 and IPv4-compatible ones.
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")


class Forbidden(Exception):
    """No request goes there. word: which rule, fit for logs."""

    def __init__(self, word: str) -> None:
        super().__init__(word)
        self.word = word


class NameUnknown(Exception):
    """The name has no address now."""


@dataclass(frozen=True, slots=True)
class Pinned:
    """The addresses of a host that were looked at."""

    host: str
    addresses: tuple[str, ...]

    def connector(self) -> aiohttp.TCPConnector:
        """Connects there and nowhere else, for one request; TLS still asks for the host's name."""
        return aiohttp.TCPConnector(resolver=_Resolver(self), use_dns_cache=False, force_close=True)


class _Resolver(AbstractResolver):
    def __init__(self, pinned: Pinned) -> None:
        self._pinned = pinned

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        if host != self._pinned.host:
            raise OSError("another host than was asked for")
        found = [_result(host, port, address) for address in self._pinned.addresses]
        return [item for item in found if family in (socket.AF_UNSPEC, item["family"])]

    async def close(self) -> None:
        """Holds nothing."""


class Egress:
    """Which addresses requests may go to: public ones by TLS, and those of the networks that are allowed, by either way."""

    def __init__(self, networks: Sequence[str]) -> None:
        self._networks = [ipaddress.ip_network(network) for network in networks]

    async def pin(self, scheme: str, host: str, port: int) -> Pinned:
        """Resolves a host, once. Forbidden when only one of its addresses is; NameUnknown."""
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise NameUnknown from None
        addresses = tuple(dict.fromkeys(str(item[4][0]) for item in found))
        for address in addresses:
            self._check(scheme, ipaddress.ip_address(address))
        return Pinned(host, addresses)

    def _check(self, scheme: str, address: IPAddress) -> None:
        real = embedded(address)
        if any(candidate in network for network in self._networks for candidate in (address, real)):
            return
        if not is_public(real):
            raise Forbidden("address_not_public")
        if scheme != "https":
            raise Forbidden("not_https")


def embedded(address: IPAddress) -> IPAddress:
    """The IPv4 address that an IPv6 address stands for, if it does for one."""
    if not isinstance(address, ipaddress.IPv6Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def is_public(address: IPAddress) -> bool:
    """Whether anybody on the internet has the address. Teredo's and multicast are nobody's to call."""
    if isinstance(address, ipaddress.IPv6Address) and (address.teredo is not None or address not in _GLOBAL_UNICAST):
        return False
    return address.is_global and not address.is_multicast


def _result(host: str, port: int, address: str) -> ResolveResult:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)
