"""Where a host is: its addresses from DNS, and from the machine's own tables where that is allowed.

RFC 5321 section 5.1 (A and AAAA alike). Called by `hosts` and `https`.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Sequence

from gateway.dns.answer import NameType
from gateway.dns.resolver import Resolver
from gateway.mail.terms import Unavailable

_ADDRESS_TYPES: tuple[NameType, ...] = ("A", "AAAA")
_MOST = 8  # of one name that are tried


class Addresses:
    """Where a host is: literals as they are, names from DNS, and from the machine's own tables where that is allowed.

    `system` is false where a file answers for DNS: then nothing else is asked.
    """

    def __init__(self, resolver: Resolver, *, system: bool) -> None:
        self._resolver = resolver
        self._system = system

    async def of(self, name: str) -> Sequence[str]:
        """The addresses in the order to try them. Raises `Unavailable`."""
        try:
            return [str(ipaddress.ip_address(name))]
        except ValueError:
            pass
        if name == "localhost":  # RFC 6761 section 6.3: never a question for DNS
            return ["127.0.0.1", "::1"]
        trouble = f"DNS: no address for {name}"
        found: list[str] = []
        for rdtype in _ADDRESS_TYPES:
            try:
                found += (await self._resolver.query(name, rdtype)).records
            except Unavailable as why:
                trouble = str(why)
        if found:
            return found[:_MOST]
        if self._system:
            try:
                entries = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
                return list(dict.fromkeys(str(entry[4][0]) for entry in entries))[:_MOST]
            except OSError:
                pass
        raise Unavailable(trouble)
