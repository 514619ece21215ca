"""The end of DATA by table and by property: however the octets are cut, the message is the same."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.mail.message import MessageWriter
from gateway.mail.reply import Reply, SyntaxRefused
from gateway.mail.terms import Unavailable
from gateway.smtp.reader import DataReader
from tests.support.work import lines


def read(*pieces: bytes, limit: int = 10_000, spool_above: int = 1000) -> tuple[bytes | Reply | None, bytes]:
    """The message or the refusal (`None` when no end came), and what follows it."""
    reader, rest = DataReader(limit, MessageWriter(spool_above)), None
    for piece in pieces:
        if rest is None:
            rest = reader.feed(piece)
        else:
            rest += piece
    if rest is None:
        reader.abandon()
        return None, b""
    try:
        return bytes(reader.finish().view()), rest
    except SyntaxRefused as refused:
        return refused.reply, rest


@pytest.mark.parametrize(
    ("stream", "message", "rest"),
    [
        (b".\r\n", b"", b""),
        (b"\r\n.\r\n", b"\r\n", b""),
        (b"a\r\n.\r\n", b"a\r\n", b""),
        (b"a\r\n.\r\nQUIT\r\n", b"a\r\n", b"QUIT\r\n"),
        (b"..\r\n.\r\n", b".\r\n", b""),
        (b"..a\r\n...b\r\n.\r\n", b".a\r\n..b\r\n", b""),
        (b".a\r\n.\r\n", b"a\r\n", b""),
        (b". \r\n.\r\n", b" \r\n", b""),
        (b"a.\r\n.\r\n", b"a.\r\n", b""),
        (b"a\r\n.\r\n.\r\n", b"a\r\n", b".\r\n"),
        (b"\r\n..\r\n..\r\n.\r\n", b"\r\n.\r\n.\r\n", b""),
    ],
)
def test_dots_and_the_end(stream: bytes, message: bytes, rest: bytes) -> None:
    assert read(stream) == (message, rest)
    assert read(*(bytes([octet]) for octet in stream)) == (message, rest)


@pytest.mark.parametrize(
    "stream", [b"", b".", b".\r", b"a\r\n.", b"a\r\n.\r", b"a\r\n.\n", b"a\n.\r\n", b"a.\r\n", b"\r\n"]
)
def test_what_is_no_end(stream: bytes) -> None:
    assert read(stream) == (None, b"")


@pytest.mark.parametrize(
    "bare", [b"\r", b"\n", b"\0", b"\r\r\n", b"\n\r", b"\r\n\n", b"\n.\n", b"\r.\r", b"\n.\r\n", b".\r.\n"]
)
def test_bare_octets_refuse_the_message_at_its_true_end(bare: bytes) -> None:
    stream = b"a" + bare + b"b\r\n.\r\nrest"
    for cut in range(len(stream) + 1):
        reply, rest = read(stream[:cut], stream[cut:])
        assert isinstance(reply, Reply)
        assert (reply.code, reply.status, rest) == (554, "5.6.0", b"rest")


def test_smuggling_octets_close_the_connection_and_size_does_not() -> None:
    for stream, limit, close in (
        (b"a\nb\r\n.\r\n", 100, True),
        (b"aaa\r\n.\r\n", 2, False),
        (b"a\nb\r\n.\r\n", 2, True),
    ):
        reader = DataReader(limit, MessageWriter())
        assert reader.feed(stream) == b""
        with pytest.raises(SyntaxRefused) as refused:
            reader.finish()
        assert refused.value.close is close


def test_the_limit_counts_octets_without_their_dots() -> None:
    assert read(b"..34567\r\n.\r\n", limit=8) == (b".34567\r\n", b"")
    reply, rest = read(b"..345678\r\n.\r\nrest", limit=8)
    assert isinstance(reply, Reply)
    assert (reply.code, reply.status, rest) == (552, "5.3.4", b"rest")


def test_what_is_too_large_is_read_to_its_end_and_not_kept() -> None:
    writer = MessageWriter(1000)
    reader = DataReader(5000, writer)
    for _ in range(1000):
        assert reader.feed(b"x" * 998 + b"\r\n") is None
    assert reader.size == 1_000_000 - 2  # a line's end may begin the end and is held back
    assert writer.size <= 5000
    assert reader.feed(b".\r\nNOOP\r\n") == b"NOOP\r\n"


def test_no_room_is_our_fault() -> None:
    class Full(MessageWriter):
        def write(self, chunk: bytes) -> None:
            raise Unavailable("disk full")

    class FullAtTheEnd(MessageWriter):
        def finish(self) -> None:  # type: ignore[override]
            raise Unavailable("disk full")

    for writer in (Full(), FullAtTheEnd()):
        reader = DataReader(5000, writer)
        assert reader.feed(b"a\r\n.\r\nrest") == b"rest"
        with pytest.raises(SyntaxRefused) as refused:
            reader.finish()
        assert (refused.value.reply.code, refused.value.reply.status) == (452, "4.3.1")
        assert not refused.value.close
        assert reader.failed == "disk full"


STREAM = st.lists(
    st.sampled_from([b"a", b".", b"..", b"\r\n", b"\r\n.", b"\r\n.\r\n", b"\r", b"\n", b"\0", b"\r\n..\r\n"]),
    max_size=20,
).map(b"".join)


def reference(stream: bytes) -> tuple[bytes | None, bytes]:
    """RFC 5321 section 4.5.2, line by line; `None` for a message that must be refused."""
    whole, end, rest = (b"\r\n" + stream).partition(b"\r\n.\r\n")
    assert end
    content = (whole + b"\r\n")[2:]
    lines = content.split(b"\r\n")
    if set(b"".join(lines)) & set(b"\r\n\0"):
        return None, rest
    return b"\r\n".join(line[1:] if line.startswith(b".") else line for line in lines), rest


@settings(max_examples=500, deadline=None)
@given(STREAM, st.lists(st.integers(1, 6), max_size=60), st.sampled_from([0, 1000]))
def test_any_split_gives_the_same(stream: bytes, sizes: list[int], spool_above: int) -> None:
    pieces, at = [], 0
    for size in sizes:
        pieces.append(stream[at : at + size])
        at += size
    pieces.append(stream[at:])
    outcome = read(*pieces, spool_above=spool_above)
    assert outcome == read(stream)
    if b"\r\n.\r\n" not in b"\r\n" + stream:
        assert outcome == (None, b"")
        return
    message, rest = reference(stream)
    assert outcome[1] == rest
    if message is None:
        assert isinstance(outcome[0], Reply)
    else:
        assert outcome[0] == message


def test_25_mb_are_a_few_lines_of_python_a_piece() -> None:
    piece = (b"x" * 76 + b"\r\n") * 840
    reader = DataReader(35_000_000, MessageWriter())
    pieces = 25_000_000 // len(piece)

    def read_all() -> None:
        for _ in range(pieces):
            reader.feed(piece)
        assert reader.feed(b".\r\n") == b""

    assert lines(read_all) < 60 * pieces, "scans run in C over whole pieces, never line by line"
    message = reader.finish()
    assert message.spooled
    message.close()
