"""The two questions to a piece of a message, against the plain definition, over every short string that matters."""

import itertools
import re

import pytest

from gateway.mail.octets import clean, dotted

_STRINGS = [bytes(s) for length in range(7) for s in itertools.product(b"\r\n.\0a", repeat=length)]
_LINES = re.compile(rb"(?:[^\r\n\0]|\r\n)*")


def test_line_ends_are_whole() -> None:
    assert [s for s in _STRINGS if clean(s) != bool(_LINES.fullmatch(s))] == []


@pytest.mark.parametrize("sought", [b"\r\n.", b"\n."])
def test_dots_at_the_start_of_lines(sought: bytes) -> None:
    assert [s for s in _STRINGS if dotted(s, sought) != (sought in s)] == []


def test_a_fault_far_behind_is_seen_among_octets_of_every_value() -> None:
    every = bytes(octet for octet in range(1, 256) if octet not in b"\r\n") + b"\r\n"
    piece = every * 1000
    assert clean(piece)
    for fault in (b"\r", b"\n", b"\0", b"\r\r\n", b"\n\r\n"):
        assert not clean(piece + fault + every)
