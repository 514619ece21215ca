"""PROXY headers: the specification's forms to the letter, everything else refused, nothing read beyond."""

import asyncio
import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.smtp.caller import Caller
from gateway.smtp.proxy import SIGNATURE, BadHeader, crc32c, parse_binary, parse_text, told


@pytest.mark.parametrize(
    ("line", "caller"),
    [
        (b"PROXY TCP4 192.0.2.7 192.0.2.25 4000 25\r\n", Caller("192.0.2.7", 4000, "192.0.2.25", 25)),
        (b"PROXY TCP4 192.0.2.7 192.0.2.25 0 65535\r\n", Caller("192.0.2.7", 0, "192.0.2.25", 65535)),
        (b"PROXY TCP6 2001:db8::7 2001:DB8:0::25 4000 25\r\n", Caller("2001:db8::7", 4000, "2001:db8::25", 25)),
        (b"PROXY TCP6 ::ffff:192.0.2.7 2001:db8::25 4000 25\r\n", Caller("192.0.2.7", 4000, "2001:db8::25", 25)),
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY UNKNOWN ffff:f...f:ffff what ever 1 2\r\n", None),
    ],
)
def test_version_1(line: bytes, caller: Caller | None) -> None:
    assert parse_text(line) == caller


@pytest.mark.parametrize(
    "line",
    [
        b"PROXY\r\n",
        b"PROXY TCP4\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.25 4000 25\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.25 4000 25\r\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.25 4000 25 \r\n",
        b"PROXY  TCP4 192.0.2.7 192.0.2.25 4000 25\r\n",
        b"PROXY TCP4 192.0.2.7  192.0.2.25 4000 25\r\n",
        b"proxy TCP4 192.0.2.7 192.0.2.25 4000 25\r\n",
        b"PROXY TCP5 192.0.2.7 192.0.2.25 4000 25\r\n",
        b"PROXY TCP6 192.0.2.7 192.0.2.25 4000 25\r\n",
        b"PROXY TCP4 2001:db8::7 2001:db8::25 4000 25\r\n",
        b"PROXY TCP4 192.0.2.007 192.0.2.25 4000 25\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.25 04000 25\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.25 4000 65536\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.25 4000 -1\r\n",
        b"PROXY TCP4 192.0.2.7 mx.example.com 4000 25\r\n",
        b"PROXY TCP4 192.0.2.\xff 192.0.2.25 4000 25\r\n",
        b"PROXY TCP6 fe80::1%eth0 2001:db8::25 4000 25\r\n",
        b"PROXY UNKNOWN" + b" x" * 60 + b"\r\n",
        b"PROXY UNKNOWN a\rb\r\n",
        b"EHLO a.example\r\n",
    ],
)
def test_version_1_refused(line: bytes) -> None:
    with pytest.raises(BadHeader):
        parse_text(line)


V4 = bytes([192, 0, 2, 7, 192, 0, 2, 25]) + struct.pack("!HH", 4000, 25)
V6 = bytes.fromhex("20010db800000000000000000000000720010db8000000000000000000000025") + struct.pack("!HH", 4000, 25)


def header(command: int, family: int, block: bytes, size: int | None = None) -> bytes:
    return SIGNATURE + bytes([command, family]) + struct.pack("!H", len(block) if size is None else size) + block


def extension(kind: int, value: bytes) -> bytes:
    return bytes([kind]) + struct.pack("!H", len(value)) + value


def summed(block: bytes) -> bytes:
    """The block with a right checksum at its end."""
    blank = header(0x21, 0x11, block + extension(3, bytes(4)))
    return block + extension(3, struct.pack("!I", crc32c(blank)))


@pytest.mark.parametrize(
    ("octets", "caller"),
    [
        (header(0x21, 0x11, V4), Caller("192.0.2.7", 4000, "192.0.2.25", 25)),
        (header(0x21, 0x21, V6), Caller("2001:db8::7", 4000, "2001:db8::25", 25)),
        (
            header(0x21, 0x11, V4 + extension(4, b"\0" * 9) + extension(0xE0, b"x")),
            Caller("192.0.2.7", 4000, "192.0.2.25", 25),
        ),
        (header(0x21, 0x11, summed(V4)), Caller("192.0.2.7", 4000, "192.0.2.25", 25)),
        (header(0x21, 0x00, b""), None),
        (header(0x20, 0x00, b""), None),
        (header(0x20, 0x11, b"any octets"), None),
    ],
)
def test_version_2(octets: bytes, caller: Caller | None) -> None:
    assert parse_binary(octets) == caller


@pytest.mark.parametrize(
    "octets",
    [
        header(0x21, 0x11, V4)[:-1],
        header(0x21, 0x11, V4) + b"x",
        header(0x21, 0x11, V4[:-1]),
        header(0x21, 0x21, V4),
        header(0x11, 0x11, V4),
        header(0x22, 0x11, V4),
        header(0x21, 0x41, V4),
        header(0x21, 0x13, V4),
        header(0x21, 0x12, V4),
        header(0x21, 0x31, b"\0" * 216),
        header(0x21, 0x31, b"\0" * 215),
        header(0x21, 0x11, V4 + b"\4\0"),
        header(0x21, 0x11, V4 + b"\4\0\2x"),
        header(0x21, 0x11, V4 + extension(3, b"\0\0\0\0")),
        header(0x21, 0x11, V4 + extension(3, b"\0\0\0")),
        b"x" + header(0x21, 0x11, V4)[1:],
        SIGNATURE,
    ],
)
def test_version_2_refused(octets: bytes) -> None:
    with pytest.raises(BadHeader):
        parse_binary(octets)


def test_the_checksum_of_the_standard() -> None:
    assert crc32c(b"123456789") == 0xE3069283


class Wire:
    """Octets that come one request at a time; asked for more than there are, it has closed."""

    def __init__(self, octets: bytes) -> None:
        self.octets = octets

    async def receive(self, count: int) -> bytes:
        if len(self.octets) < count:
            raise EOFError
        taken, self.octets = self.octets[:count], self.octets[count:]
        return taken


@pytest.mark.parametrize(
    "octets",
    [
        b"PROXY TCP4 192.0.2.7 192.0.2.25 4000 25\r\n",
        b"PROXY UNKNOWN\r\n",
        header(0x21, 0x11, summed(V4)),
        header(0x20, 0, b""),
    ],
)
def test_nothing_is_read_behind_the_header(octets: bytes) -> None:
    wire = Wire(octets + b"EHLO a\r\n")
    asyncio.run(told(wire.receive))
    assert wire.octets == b"EHLO a\r\n"


@pytest.mark.parametrize(
    "octets", [b"EHLO client.example\r\n", b"PROXY " + b"x" * 200, b"\x16\x03\x01" + b"x" * 20, b"PROXY UNKNOWN\n     "]
)
def test_no_header(octets: bytes) -> None:
    with pytest.raises(BadHeader):
        asyncio.run(told(Wire(octets).receive))


@given(
    st.one_of(st.binary(max_size=60), st.binary(max_size=60).map(lambda b: SIGNATURE + b), st.text().map(str.encode))
)
def test_any_octets_are_a_header_or_none(octets: bytes) -> None:
    with contextlib.suppress(BadHeader, EOFError):
        asyncio.run(told(Wire(octets).receive))
