"""The greylisting key: whom a retry must come from to count as the same sender. Pure.

Large senders retry from another address of a pool, so the key names an identity, not an address: the domain that SPF
passed, else the organisational domain of the verified reverse name, else the network. Sender and recipient are
normalised, so that senders which number their envelope addresses (VERP, BATV, SRS) are recognised on the retry.
Two different addresses that fall together cost nothing: the identity and the recipient still have to match.
"""

import itertools
import re
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from publicsuffixlist import PublicSuffixList

from gateway.mail.terms import Result
from gateway.state.store import GreylistKey, bounded

_SRS = re.compile(r"srs([01])[=+-][^=]*=(?:[a-z2-7]{2}=)?(.*)", re.DOTALL)
_BATV = re.compile(r"(?:prvs|btv1)=+[^=]*=+(.*)", re.DOTALL)
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_SEGMENT = re.compile(r"[a-z0-9]*[0-9][a-z0-9]*")
_DIGITS = re.compile(r"[0-9]+")
_NUMBERS = re.compile(r"[0-9]+(?:[-._][0-9]+)+")  # "192-0-2-1", but not "mx2.out1"
#: A segment with a digit and this long is a token as a whole (random hex, base 32 ...), not a name with a number.
_TOKEN_LENGTH = 8
#: RFC 5321 section 4.5.3.1 allows 64 + 1 + 255 octets; nothing longer is taken apart.
_ADDRESS_LIMIT = 320


def key(identity: str, sender: str, recipient: str) -> GreylistKey:
    """The triplet under which an attempt is remembered. `sender` is "" for the null reverse-path."""
    return GreylistKey(bounded(identity), _sender(sender), bounded(_folded(recipient)))


def identity(spf_result: str, spf_domain: str, iprev: str, client_name: str, client_ip: str) -> str:
    """The first rung that holds: "spf:DOMAIN", "name:DOMAIN", "net:NETWORK".

    A reverse name that merely spells the address ("192-0-2-1.pool.example.net") is that of an access network's
    customer: all its customers would share one identity and, after five, one exemption. Such names count as none.
    """
    if spf_result == Result.PASS and spf_domain:
        return "spf:" + spf_domain.lower().rstrip(".")
    address = ip_address(client_ip)
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if iprev == Result.PASS and client_name and not spells_address(client_name, address):
        organisation = organisational_domain(client_name)
        if organisation:
            return "name:" + organisation
    return f"net:{ip_network((address, 24 if address.version == 4 else 64), strict=False)}"


def spells_address(name: str, address: IPv4Address | IPv6Address) -> bool:
    """True when the name holds the address: its last two or more octets in decimal, or all of it in hexadecimal."""
    host = name.lower()
    if isinstance(address, IPv6Address):
        digits = address.exploded.replace(":", "")
        squeezed = re.sub(r"[^0-9a-f]", "", host)
        groups = [f"{int(group, 16):x}" for group in address.exploded.split(":")]
        return digits in squeezed or digits[::-1] in squeezed or "-".join(groups) in host
    if address.packed.hex() in host:
        return True
    octets = list(address.packed)
    for run in _NUMBERS.findall(host):
        numbers = [int(number[-4:]) for number in _DIGITS.findall(run)]
        pairs = list(itertools.pairwise(numbers))
        if (octets[2], octets[3]) in pairs or (octets[3], octets[2]) in pairs:
            return True
    padded = "".join(f"{octet:03d}" for octet in address.packed)
    return padded in host


@cache
def _suffixes() -> PublicSuffixList:
    return PublicSuffixList()


def organisational_domain(name: str) -> str:
    """The registrable domain by the public suffix list; "" for a name that is itself a public suffix."""
    found = _suffixes().privatesuffix(name.lower().rstrip("."))
    return found if isinstance(found, str) else ""


def _folded(address: str) -> str:
    """Lower case as a whole: local parts that differ in case only are one mailbox everywhere that matters."""
    return address.lower()


def _sender(address: str) -> str:
    local, at, domain = _folded(address).rpartition("@")
    if len(local) > _ADDRESS_LIMIT:  # before any regular expression sees it
        return bounded(local + at + domain)
    if match := _SRS.fullmatch(local):
        local = f"srs{match[1]}={match[2]}"
    elif match := _BATV.fullmatch(local):
        local = match[1]
    local = _SEGMENT.sub(_counter, _UUID.sub("#", local))
    return bounded(local + at + domain)


def _counter(match: re.Match[str]) -> str:
    segment = match[0]
    return "#" if len(segment) >= _TOKEN_LENGTH else _DIGITS.sub("#", segment)
