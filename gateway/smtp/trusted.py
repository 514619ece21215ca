"""Networks whose word about the client is believed (PROXY header, XCLIENT). Read from the configuration."""

import ipaddress

Networks = tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]


def among(ip: str, networks: Networks) -> bool:
    """True when the address belongs to one of them."""
    if not networks:
        return False
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return False
    return any(address.version == network.version and address in network for network in networks)
