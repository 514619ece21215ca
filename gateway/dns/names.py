"""Domain names as text: when a question may be asked for one, and what an address is called in reverse.

A name is lower-case ASCII without final dot; dots separate labels and nothing is escaped. RFC 1035 section 2.3.4 gives
the lengths, RFC 2181 section 11 leaves the octets free: labels of SPF macros hold blanks and quotes, so only what
text cannot carry is refused (controls, non-ASCII: callers convert to A-labels first).
"""

import ipaddress

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


def reverse_name(ip: str) -> str:
    """The owner name of the PTR records of an address (RFC 1035 section 3.5, 3596 section 2.5).

    IPv4-mapped IPv6 addresses are IPv4. Raises `ValueError` when `ip` is no address.
    """
    address = ipaddress.ip_address(ip.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return ".".join(reversed(address.packed.hex())) + ".ip6.arpa"
        address = address.ipv4_mapped
    return ".".join(map(str, reversed(address.packed))) + ".in-addr.arpa"
