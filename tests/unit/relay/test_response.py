"""Replies out of octets: whole or octet by octet the same, or `Garbled`."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.relay.response import Garbled, Response, ResponseReader


def read(pieces: list[bytes]) -> tuple[list[Response], bool]:
    reader, found = ResponseReader(), []
    try:
        for piece in pieces:
            for response in reader.feed(piece):
                found.append(response)
    except Garbled:
        return found, True
    return found, False


@pytest.mark.parametrize(
    ("octets", "responses"),
    [
        (b"250 ok\r\n", [Response(250, ("ok",))]),
        (b"250\r\n", [Response(250, ("",))]),
        (b"250 \r\n", [Response(250, ("",))]),
        (b"250-a\r\n250-b\r\n250 c\r\n", [Response(250, ("a", "b", "c"))]),
        (b"250-\r\n250\r\n", [Response(250, ("", ""))]),
        (b"354 go\r\n550 5.1.1 no\r\n", [Response(354, ("go",)), Response(550, ("5.1.1 no",))]),
        (b"250 \xc3\xa9\r\n", [Response(250, ("\xc3\xa9",))]),
        (b"250 unfinished", []),
        (b"", []),
    ],
)
def test_whole_replies(octets: bytes, responses: list[Response]) -> None:
    assert read([octets]) == (responses, False)
    assert read([bytes([octet]) for octet in octets]) == (responses, False)


@pytest.mark.parametrize(
    "octets",
    [b"250 ok\n", b"\r\n", b"ok\r\n", b"2500 ok\r\n", b"25 ok\r\n", b"+50 ok\r\n", b"650 ok\r\n", b"150 ok\r\n",
     b"250_ok\r\n", b"250-a\r\n251 b\r\n", b"250 a\rb\r\n", b" 250 a\r\n", "２５０ a\r\n".encode(),
     b"250-x\r\n" * 100 + b"250 y\r\n", b"250 " + b"x" * 65536 + b"\r\n", b"250-" + b"x" * 2000 + b"\r\n" * 40],
)  # fmt: skip
def test_what_is_no_reply(octets: bytes) -> None:
    assert read([octets])[1]
    assert read([bytes([octet]) for octet in octets])[1]


def test_a_reply_before_the_fault_counts() -> None:
    assert read([b"250 ok\r\ngarbage\r\n"]) == ([Response(250, ("ok",))], True)


def test_a_hundred_lines_are_allowed() -> None:
    found, fault = read([b"250-x\r\n" * 99 + b"250 y\r\n"])
    assert not fault
    assert len(found[0].lines) == 100


def test_the_limit_is_for_one_reply() -> None:
    found, fault = read([b"250 " + b"x" * 60_000 + b"\r\n"] * 5)
    assert (len(found), fault) == (5, False)


def test_an_endless_line_is_cut_off() -> None:
    found, fault = read([b"x" * 1000] * 100)
    assert (found, fault) == ([], True)


def test_partial() -> None:
    reader = ResponseReader()
    for octets, partial in ((b"2", True), (b"50-a\r\n", True), (b"250 b\r\n", False)):
        list(reader.feed(octets))
        assert reader.partial is partial


_TOKENS = st.sampled_from([b"250", b"250-", b"550 5.1.1 x", b"\r\n", b"\n", b"\r", b" ", b"-", b"\xff", b"x" * 30_000])


@given(st.lists(_TOKENS | st.binary(max_size=5), max_size=30), st.lists(st.integers(0, 200), max_size=5))
@settings(max_examples=200, deadline=None)
def test_any_split_gives_the_same(tokens: list[bytes], cuts: list[int]) -> None:
    octets = b"".join(tokens)
    places = sorted({min(cut, len(octets)) for cut in cuts})
    pieces = [octets[a:b] for a, b in zip([0, *places], [*places, len(octets)], strict=True)]
    assert read(pieces) == read([octets])
