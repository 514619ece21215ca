"""Canonical forms: any split of the body gives the digest that the definition gives."""

import hashlib
import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.checks import canonical
from gateway.checks.canonical import Header, body_digest, relaxed_field
from gateway.mail.message import Message


class Split(Message):
    """A message whose body comes in pieces of a given size."""

    piece = 1

    def chunks(self, start: int = 0, size: int = 0) -> Iterator[memoryview]:
        return super().chunks(start, self.piece)


def defined(body: bytes, relaxed: bool) -> bytes:
    """RFC 6376 sections 3.4.3 and 3.4.4, word by word."""
    if relaxed:
        body = re.sub(rb"[ \t]+", b" ", body)
        body = re.sub(rb" (?=\r\n|$)", b"", body)
    while body.endswith(b"\r\n"):
        body = body[:-2]
    return body + b"\r\n" if body or not relaxed else b""


@given(
    st.lists(st.sampled_from([b"a", b" ", b"\t", b"\r\n", b"\r\n\r\n", b"bc", b"."]), max_size=14).map(b"".join),
    st.integers(1, 5),
    st.booleans(),
)
def test_any_split_gives_the_digest_of_the_definition(body: bytes, piece: int, relaxed: bool) -> None:
    message = Split(b"X: y\r\n\r\n" + body)
    message.__class__.piece = piece
    found = body_digest(message, relaxed=relaxed, algorithm="sha256")
    assert found == hashlib.sha256(defined(body, relaxed)).digest()


@given(st.binary(max_size=30), st.integers(1, 4), st.booleans())
def test_bare_octets_never_break_it(body: bytes, piece: int, relaxed: bool) -> None:
    whole = body_digest(Message(b"X: y\r\n\r\n" + body), relaxed=relaxed, algorithm="sha256")
    message = Split(b"X: y\r\n\r\n" + body)
    message.__class__.piece = piece
    assert body_digest(message, relaxed=relaxed, algorithm="sha256") == whole


@pytest.mark.parametrize("relaxed", [True, False])
@pytest.mark.parametrize("unit", [b"\r\n", b" ", b" \t", b" \r\n", b"a \r\n", b"a  b\r\n"])
def test_large_bodies(unit: bytes, relaxed: bool) -> None:
    body = unit * (600_000 // len(unit))
    found = body_digest(Message(b"\r\n" + body), relaxed=relaxed, algorithm="sha256")
    assert found == hashlib.sha256(defined(body, relaxed)).digest()


@pytest.mark.parametrize(
    ("field", "form"),
    [
        (b"A: X\r\n", b"a:X"),
        (b"B : Y\t\r\n\tZ  \r\n", b"b:Y Z"),
        (b"SubjecT:\r\n   one \t two\r\n", b"subject:one two"),
        (b"A:\r\n", b"a:"),
        (b"A: \r\n \r\n", b"a:"),
        (b"A: x\x0by\r\n", b"a:x\x0by"),
    ],
)
def test_relaxed_field(field: bytes, form: bytes) -> None:
    assert relaxed_field(field) == form


def test_fields_are_chosen_from_the_bottom() -> None:
    header = Header(Message.from_octets(b"A: 1\r\nB: 2\r\nA: 3\r\nA: 4\r\n\r\n").fields)
    assert header.selected([b"a", b"a", b"b", b"c", b"a", b"a"], 0, relaxed=False) == [
        b"A: 4\r\n", b"A: 3\r\n", b"B: 2\r\n",
    ]  # fmt: skip
    assert header.selected([b"a"], 3, relaxed=True) == [b"a:3\r\n"]


def test_pieces_are_what_the_bounds_are_made_for() -> None:
    assert canonical._PIECE <= 256 * 1024
