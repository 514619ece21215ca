"""The PROXY protocol, versions 1 and 2: a load balancer tells who the client is, before anything else is said.

Read from trusted addresses alone, and there it is mandatory: who may leave it out could as well be the client. Strict
and bounded: 107 octets of text, or 16 octets and as many more as they announce; whatever does not fit to the letter
ends the connection without a word. Extensions (TLV) are skipped but for the checksum, which must be right where it
stands. Nothing behind the header is read here, so that TLS or the first command are whole for whoever comes next.

The specification is HAProxy's `proxy-protocol.txt`. Called by `door`.
"""

import ipaddress
import re
import struct
from collections.abc import Awaitable, Callable
from functools import lru_cache

from gateway.smtp.caller import Caller
from gateway.smtp.census import canonical

SECONDS = 5.0  # the specification asks for at least three
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
#: A version 2 header that says: nobody but the peer itself.
LOCAL = SIGNATURE + b"\x20\0\0\0"
_TEXT_LIMIT = 107
_PORT = rb"(0|[1-9]\d{0,4})"
_TEXT = re.compile(rb"PROXY (TCP4|TCP6) (\S+) (\S+) " + _PORT + rb" " + _PORT + rb"\r\n")
_UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: [^\r\n]*)?\r\n")
_CRC32C = 0x03

#: Exactly so many octets; `EOFError` when the peer has closed before.
Receive = Callable[[int], Awaitable[bytes]]


class BadHeader(Exception):  # noqa: N818 - the peer's octets, named after what they are
    """What came is no PROXY header. The text is for the log."""


async def told(receive: Receive) -> Caller | None:
    """The client that the header names; `None` when it says that the peer speaks for itself. Raises `BadHeader`."""
    head = await receive(len(SIGNATURE))
    if head == SIGNATURE:
        head += await receive(4)
        return parse_binary(head + await receive(_announced(head)))
    if not head.startswith(b"PROXY "):
        raise BadHeader("no header")
    # Octet by octet: one more than the line's end would be the client's first.
    while not head.endswith(b"\n"):
        if len(head) >= _TEXT_LIMIT:
            raise BadHeader("the header has no end")
        head += await receive(1)
    return parse_text(head)


def parse_text(line: bytes) -> Caller | None:
    """Version 1: one line with its CRLF."""
    if len(line) > _TEXT_LIMIT:
        raise BadHeader("too long")
    if _UNKNOWN.fullmatch(line):
        return None
    match = _TEXT.fullmatch(line)
    if match is None:
        raise BadHeader("no version 1 header")
    kind = ipaddress.IPv4Address if match[1] == b"TCP4" else ipaddress.IPv6Address
    ports = int(match[4]), int(match[5])
    try:
        source, target = (kind(match[group].decode("ascii")) for group in (2, 3))
    except ValueError:  # UnicodeDecodeError among them
        raise BadHeader("no address") from None
    if max(ports) > 65535:
        raise BadHeader("no port")
    return _caller(source, target, *ports)


def parse_binary(header: bytes) -> Caller | None:
    """Version 2: the whole header, as long as it says."""
    if header[:12] != SIGNATURE or len(header) < 16 or len(header) != 16 + _announced(header):
        raise BadHeader("no version 2 header")
    command, family = header[12], header[13]
    if command not in (0x20, 0x21):
        raise BadHeader("no version or command that we know")
    if family >> 4 > 3 or family & 15 > 2:
        raise BadHeader("no family or transport that we know")
    block = header[16:]
    sizes = {0x11: 12, 0x21: 36}.get(family, 216 if family >> 4 == 3 else 0)
    if command == 0x20:
        return None  # LOCAL: a health check of the balancer's own; the block is to be skipped
    if len(block) < sizes:
        raise BadHeader("addresses cut short")
    _check_extensions(header, 16 + sizes)
    match family:
        case 0x11:
            source, target, *ports = struct.unpack("!4s4sHH", block[:12])
            return _caller(ipaddress.IPv4Address(source), ipaddress.IPv4Address(target), *ports)
        case 0x21:
            source, target, *ports = struct.unpack("!16s16sHH", block[:36])
            return _caller(ipaddress.IPv6Address(source), ipaddress.IPv6Address(target), *ports)
        case 0x00:
            return None  # UNSPEC: unknown, the real addresses count
    raise BadHeader("neither TCP over IPv4 nor over IPv6")


def _announced(header: bytes) -> int:
    return int.from_bytes(header[14:16], "big")


def _check_extensions(header: bytes, at: int) -> None:
    while at < len(header):
        if at + 3 > len(header):
            raise BadHeader("an extension is cut short")
        kind, size = header[at], int.from_bytes(header[at + 1 : at + 3], "big")
        value, following = at + 3, at + 3 + size
        if following > len(header):
            raise BadHeader("an extension is cut short")
        if kind == _CRC32C:
            blank = header[:value] + bytes(size) + header[following:]
            if size != 4 or crc32c(blank) != int.from_bytes(header[value:following], "big"):
                raise BadHeader("the checksum is wrong")
        at = following


def crc32c(octets: bytes) -> int:
    """The Castagnoli checksum (RFC 9260 appendix A)."""
    table, crc = _table(), 0xFFFFFFFF
    for octet in octets:
        crc = table[(crc ^ octet) & 255] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


@lru_cache(maxsize=1)
def _table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


def _caller(
    source: ipaddress.IPv4Address | ipaddress.IPv6Address,
    target: ipaddress.IPv4Address | ipaddress.IPv6Address,
    port: int,
    target_port: int,
) -> Caller:
    if isinstance(source, ipaddress.IPv6Address) and source.scope_id is not None:
        raise BadHeader("a zone index")
    return Caller(_text(source), port, _text(target), target_port)


def _text(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return canonical(str(mapped or address))
