"""Transfer encodings: heads, wholes, sizes; where readers disagree."""

import binascii

import pytest

from gateway.checks.mime import Part
from gateway.checks.transfer import agreed, head_of, size_of, whole_of


def leaf(octets: bytes, encoding: str) -> Part:
    return Part("x/y", (), True, encoding, 0, len(octets))


FILE = bytes(range(256)) * 40
PLAIN = binascii.b2a_base64(FILE, newline=False)
LINES = b"\r\n".join(PLAIN[at : at + 76] for at in range(0, len(PLAIN), 76))


@pytest.mark.parametrize(
    ("raw", "encoding", "whole"),
    [
        (LINES, "base64", FILE),
        (LINES.rstrip(b"="), "base64", FILE),
        (b"QUJD!R\r\nA", "base64", b"ABCD"),
        (b"QUJDR", "base64", b"ABC"),
        (b"", "base64", b""),
        (b"====", "base64", b""),
        (b"A=42=\r\nC", "quoted-printable", b"ABC"),
        (b"A=4", "quoted-printable", b"A=4"),
        (b"ABC", "", b"ABC"),
        (b"ABC", "x-own", b"ABC"),
    ],
)
def test_decoded(raw: bytes, encoding: str, whole: bytes) -> None:
    assert whole_of(raw, leaf(raw, encoding)) == whole
    assert head_of(raw, leaf(raw, encoding), 100) == whole[:100]


@pytest.mark.parametrize(
    ("raw", "encoding", "same"),
    [
        (LINES, "base64", True),
        (b"QUJD", "base64", True),
        (b"QUI=\r\n", "base64", True),
        (b"QQ==\r\nTVqQ", "base64", False),
        (b"=TVqQ", "base64", False),
        (b"QQ==" + b"\r\n" * 2_000, "base64", True),
        (b"QQ==" + b"\r\n" * 2_000 + b"TVqQ", "base64", False),
        (b"x", "quoted-printable", True),
        (b"x", "8bit", True),
        (b"x", "x-uuencode", False),
        (b"x", "base-64", False),
    ],
)
def test_agreed(raw: bytes, encoding: str, same: bool) -> None:
    assert agreed(raw, leaf(raw, encoding)) is same


def test_sizes() -> None:
    assert abs(size_of(LINES, leaf(LINES, "base64")) - len(FILE)) < 4
    assert size_of(b"abc", leaf(b"abc", "7bit")) == 3
    assert size_of(b"", leaf(b"", "base64")) == 0
