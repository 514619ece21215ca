"""XCLIENT attributes, by table."""

import pytest

from gateway.mail.reply import SyntaxRefused
from gateway.smtp.xclient import Attributes, attributes


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        (b"ADDR=192.0.2.7", Attributes(ip="192.0.2.7")),
        (b"addr=IPV6:2001:DB8::7 port=4000", Attributes(ip="2001:db8::7", port=4000)),
        (b"ADDR=IPV6:::ffff:192.0.2.7", Attributes(ip="192.0.2.7")),
        (b"HELO=a+2Bb.example NAME=spike.example PROTO=ESMTP LOGIN=sue", Attributes(helo="a+b.example")),
        (b"ADDR=[UNAVAILABLE] NAME=[TEMPUNAVAIL] PORT=[unavailable]", Attributes()),
        (b"DESTADDR=192.0.2.25 DESTPORT=25", Attributes(server_ip="192.0.2.25", server_port=25)),
    ],
)
def test_attributes(argument: bytes, told: Attributes) -> None:
    assert attributes(argument) == told


@pytest.mark.parametrize(
    "argument",
    [
        b"",
        b"ADDR",
        b"ADDR=",
        b"ADDR=2001:db8::7",
        b"ADDR=IPV6:192.0.2.7",
        b"ADDR=IPV6:fe80::1%1",
        b"ADDR=192.0.2.7 ADDR=192.0.2.8",
        b"ADDR=192.0.2.007",
        b"PORT=65536",
        b"PORT=-1",
        b"PORT=1e3",
        b"PORT=123456",
        b"HELO=a+20b",
        b"HELO=a+0D+0A",
        b"PROTO=HTTP",
        b"COLOUR=red",
        b"HELO=" + b"x" * 256,
        b"NAME=a  HELO=b",
        b"\xff=1",
    ],
)
def test_bad_attributes(argument: bytes) -> None:
    with pytest.raises(SyntaxRefused) as refused:
        attributes(argument)
    assert (refused.value.reply.code, refused.value.reply.status) == (501, "5.5.4")
