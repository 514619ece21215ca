"""The header read once, in linear time and bounded; octets the same in memory and in a file."""

import gc
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mail.message import FIELDS_LIMIT, HEADER_LIMIT, Message, MessageWriter
from gateway.mail.terms import Unavailable
from tests.support.work import lines

TEXT = b"From: Sue <sue@a.example>\r\nSubject : folded\r\n\tover two\r\nX-Empty:\r\n\r\nBody\r\n"


def written(octets: bytes, spool_above: int) -> Message:
    writer = MessageWriter(spool_above)
    for start in range(0, len(octets), 7):
        writer.write(octets[start : start + 7])
    assert writer.size == len(octets)
    return writer.finish()


@pytest.mark.parametrize("spool_above", [10, 1_000_000])
def test_fields_are_raw_and_in_order(spool_above: int) -> None:
    message = written(TEXT, spool_above)
    assert message.spooled == (spool_above == 10)
    assert message.malformed == ""
    assert [field.name for field in message.fields] == [b"From", b"Subject", b"X-Empty"]
    assert [field.key for field in message.fields] == [b"from", b"subject", b"x-empty"]
    assert message.fields[1].raw == b"Subject : folded\r\n\tover two\r\n"
    assert message.fields[1].value == b" folded\r\n\tover two"
    assert message.fields[2].value == b""
    assert b"".join(field.raw for field in message.fields) + b"\r\n" == bytes(message.view(0, message.body_offset))
    assert bytes(message.view(message.body_offset)) == b"Body\r\n"
    assert message.size == len(TEXT)
    assert b"".join(message.chunks(size=3)) == TEXT
    assert b"".join(message.chunks(5, size=1000)) == TEXT[5:]
    assert message.fields is message.fields


@pytest.mark.parametrize(
    ("octets", "names", "body"),
    [
        (b"", [], b""),
        (b"\r\n", [], b""),
        (b"\r\nA: b\r\n", [], b"A: b\r\n"),
        (b"A: b\r\n", [b"A"], b""),
        (b"A: b", [b"A"], b""),
        (b"A:b\r\n\r\n", [b"A"], b""),
        (b"A: b\r\n \r\n\r\nx\r\n", [b"A"], b"x\r\n"),
        (b"A: b\r\n\r\n\r\nx\r\n", [b"A"], b"\r\nx\r\n"),
        (b"!#~: x\r\n\r\n", [b"!#~"], b""),
    ],
)
def test_where_the_header_ends(octets: bytes, names: list[bytes], body: bytes) -> None:
    message = Message.from_octets(octets)
    assert message.malformed == ""
    assert [field.name for field in message.fields] == names
    assert bytes(message.view(message.body_offset)) == body


@pytest.mark.parametrize(
    ("octets", "before"),
    [
        (b" From: a\r\nFrom: b\r\n\r\n", 0),
        (b"\tFrom: a\r\n\r\n", 0),
        (b"From\r\n : a\r\nFrom: b\r\n\r\n", 0),
        (b"A: b\r\nno colon here\r\nC: d\r\n\r\n", 1),
        (b"A: b\r\nFrom x: d\r\n\r\n", 1),
        (b"A: b\r\n: d\r\n\r\n", 1),
        (b"From\xff: b\r\n\r\n", 0),
        (b"Fr\x00om: b\r\n\r\n", 0),
        (b"A: b\0\r\n\r\n", 0),
        (b"A: b\rFrom: c\r\n\r\n", 0),
        (b"A: b\nFrom: c\r\n\r\n", 0),
    ],
)
def test_what_is_malformed_and_never_resynchronised(octets: bytes, before: int) -> None:
    message = Message.from_octets(octets)
    assert message.malformed
    assert len(message.fields) == before


def test_too_many_fields() -> None:
    fields = b"A:\r\n" * FIELDS_LIMIT
    assert not Message.from_octets(fields + b"\r\n").malformed
    message = Message.from_octets(fields + b"B:\r\n\r\nbody")
    assert message.malformed
    assert len(message.fields) == FIELDS_LIMIT


@pytest.mark.parametrize(
    "octets",
    [
        b"a: b\r\n" * 100_000 + b"\r\nx",
        b"a: " + b"b" * 1_000_000 + b"\r\n\r\nx",
        b"a:\r\n" + b" \r\n" * 400_000 + b"\r\n",
        b"a" * 1_000_000,
        b"\r" * 1_000_000,
        b"\n" * 1_000_000,
        b": " * 500_000,
    ],
    ids=["fields", "one field", "folds", "no colon", "CR", "LF", "colons"],
)
def test_hostile_headers_are_cheap(octets: bytes) -> None:
    assert lines(lambda: Message.from_octets(octets).fields) < 30_000
    message = Message.from_octets(octets)
    assert message.malformed
    assert message.body_offset == message.size
    assert sum(len(field.raw) for field in message.fields) <= HEADER_LIMIT


def test_a_header_just_within_the_limit() -> None:
    head = b"A: " + b"b" * (HEADER_LIMIT - 9) + b"\r\n\r\n"
    assert len(head) == HEADER_LIMIT - 2
    message = Message.from_octets(head + b"x" * 100)
    assert not message.malformed
    assert bytes(message.view(message.body_offset)) == b"x" * 100


@given(
    st.lists(st.sampled_from([b"a", b":", b" ", b"\r\n", b"\t", b"From", b"\r", b"\n", b"\0", b"\xff"]), max_size=30)
)
def test_any_octets_have_a_header_or_are_malformed(pieces: list[bytes]) -> None:
    octets = b"".join(pieces)
    message = Message.from_octets(octets)
    assert message.body_offset <= message.size
    head = b"".join(field.raw for field in message.fields)
    assert octets.startswith(head)
    if not message.malformed:
        assert octets[: message.body_offset] in {head, head + b"\r\n"}


def test_closing_gives_back_and_keeps_others_views() -> None:
    message = written(TEXT, 10)
    view = message.view(0, 4)
    message.close()
    message.close()
    assert bytes(view) == b"From"
    with pytest.raises(ValueError, match="released"):
        message.view()
    view.release()
    small = Message.from_octets(TEXT)
    fields = small.fields
    small.close()
    assert small.fields is fields


def test_spooled_octets_are_in_a_file_without_a_name(tmp_path: Path) -> None:
    open_before = len(os.listdir("/proc/self/fd"))
    writer = MessageWriter(10, str(tmp_path))
    writer.write(TEXT)
    message = writer.finish()
    assert message.spooled
    assert not list(tmp_path.iterdir())
    message.close()
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == open_before


def test_abandoned_writers_leave_nothing() -> None:
    open_before = len(os.listdir("/proc/self/fd"))
    for spool_above in (10, 1000):
        writer = MessageWriter(spool_above)
        writer.write(TEXT)
        writer.abandon()
        writer.abandon()
    assert len(os.listdir("/proc/self/fd")) == open_before


def test_a_spool_that_cannot_be_opened_is_unavailable(tmp_path: Path) -> None:
    writer = MessageWriter(10, str(tmp_path / "nowhere"))
    with pytest.raises(Unavailable):
        writer.write(TEXT)


def test_a_full_disk_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: open("/dev/full", "r+b", buffering=0))  # noqa: SIM115
    writer = MessageWriter(10)
    with pytest.raises(Unavailable):
        writer.write(TEXT)


def test_a_map_that_fails_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    writer = MessageWriter(10)
    writer.write(TEXT)

    def no_map(*_: object, **__: object) -> None:
        raise OSError("no memory")

    monkeypatch.setattr("mmap.mmap", no_map)
    with pytest.raises(Unavailable):
        writer.finish()


@pytest.mark.parametrize("spool_above", [10, 10_000])
def test_octets_are_counted_until_the_message_is_closed(spool_above: int) -> None:
    held = 0

    def counted(octets: int) -> None:
        nonlocal held
        held += octets

    writer = MessageWriter(spool_above, counted=counted)
    writer.write(b"x" * 100)
    assert held == 100
    writer.abandon()
    writer.abandon()
    assert held == 0
    writer = MessageWriter(spool_above, counted=counted)
    writer.write(b"x" * 100)
    message = writer.finish()
    writer.abandon()
    assert held == 100
    message.close()
    message.close()
    assert held == 0


def test_what_could_not_be_spooled_is_given_back(tmp_path: Path) -> None:
    held = 0

    def counted(octets: int) -> None:
        nonlocal held
        held += octets

    writer = MessageWriter(10, str(tmp_path / "nowhere"), counted)
    with pytest.raises(Unavailable):
        writer.write(b"x" * 100)
    assert held == 0
