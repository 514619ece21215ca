"""Domain names as text: when a question may be asked for one, and what an address is called in reverse.

A name is lower-case ASCII without final dot; dots separate labels and nothing is escaped. RFC 1035 section 2.3.4 gives
the lengths, RFC 2181 section 11 leaves the octets free: labels of SPF macros hold blanks and quotes, so only what
text cannot carry is refused (controls, non-ASCII: callers convert to A-labels first).
"""

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

MAX_NAME = 253  # 255 octets on the wire, less the first length and the root
MAX_LABEL = 63


def canonical(name: str) -> str | None:
    """The name as it is asked and cached, or `None` when no server could hold such a name."""
    if name.endswith("."):
        name = name[:-1]
    if not 0 < len(name) <= MAX_NAME or not name.isascii() or not name.isprintable():
        return None
    if not all(0 < len(label) <= MAX_LABEL for label in name.split(".")):
        return None
    return name.lower()


@lru_cache(maxsize=1024)  # 4 µs, and each check of a mail asks for the same one
def address_of(ip: str) -> IPv4Address | IPv6Address:
    """The address that a text is: IPv4-mapped IPv6 is IPv4, a scope is dropped. `ValueError` when it is none."""
    address = ip_address(ip.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def reverse_name(ip: str) -> str:
    """The owner name of the PTR records of an address (RFC 1035 section 3.5, 3596 section 2.5)."""
    address = address_of(ip)
    if isinstance(address, IPv4Address):
        return ".".join(map(str, reversed(address.packed))) + ".in-addr.arpa"
    return ".".join(reversed(address.packed.hex())) + ".ip6.arpa"
