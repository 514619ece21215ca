"""Chunks: announced, taken as they are, judged like DATA."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.mail.message import Message, MessageWriter
from gateway.mail.reply import Reply, SyntaxRefused
from gateway.mail.terms import Unavailable
from gateway.smtp import chunks
from gateway.smtp.chunks import CHUNKS_LIMIT, ChunkReader


@pytest.mark.parametrize(
    ("argument", "meant"),
    [(b"0", (0, False)), (b"12 LAST", (12, True)), (b"12 last", (12, True)), (b"007", (7, False))],
)
def test_announced(argument: bytes, meant: tuple[int, bool]) -> None:
    assert chunks.announced(argument) == meant


@pytest.mark.parametrize(
    "argument", [b"", b"LAST", b"-1", b"+1", b"1.0", b"0x10", b"12 LASTLY", b"12LAST", b"1" * 21, "१".encode(), b"1 2"]
)
def test_an_announcement_that_is_none_closes(argument: bytes) -> None:
    with pytest.raises(SyntaxRefused) as refused:
        chunks.announced(argument)
    assert (refused.value.reply.code, refused.value.close) == (501, True)


def read(pieces: list[bytes], *, limit: int = 100, cut: int = 0) -> bytes | Reply:
    """One message of those chunks, each fed whole or in pieces of `cut`."""
    reader = ChunkReader(limit, MessageWriter())
    try:
        for index, piece in enumerate(pieces):
            reader.begin(len(piece), last=index == len(pieces) - 1)
            rest: bytes | None = reader.feed(b"") if not piece else None
            for at in range(0, len(piece), cut or len(piece) or 1):
                assert rest is None
                rest = reader.feed(piece[at : at + (cut or len(piece))])
            assert rest == b""
            done = reader.finish()
        assert isinstance(done, Message)
        return bytes(done.view())
    except SyntaxRefused as refused:
        return refused.reply


def test_what_follows_a_chunk_is_given_back() -> None:
    reader = ChunkReader(100, MessageWriter())
    reader.begin(3, last=False)
    assert reader.feed(b"a") is None
    assert reader.left == 2
    assert reader.feed(b"\r\nNOOP\r\n") == b"NOOP\r\n"
    assert reader.finish() == 3
    reader.abandon()


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from([b"a", b"\r\n", b"\r", b"\n", b".", b"\0"])).map(b"".join), min_size=1))
def test_cut_as_one_likes_the_outcome_is_the_same(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    outcome = read(pieces)
    # A fault is told after the chunk that has it, and nothing else depends on the cuts.
    assert read(pieces, cut=1) == outcome
    if isinstance(outcome, bytes):
        assert outcome == (whole if not whole or whole.endswith(b"\r\n") else whole + b"\r\n")
        assert not set(outcome.replace(b"\r\n", b"")) & set(b"\r\n\0")
    else:
        assert set(whole.replace(b"\r\n", b"")) & set(b"\r\n\0") or len(whole) > 100


def test_over_the_limit() -> None:
    assert read([b"x" * 50, b"x" * 51]) == Reply(552, "5.3.4", ("The message is larger than 100 octets",))
    assert read([b"x" * 98 + b"\r\n"]) == b"x" * 98 + b"\r\n"


def test_chunks_are_counted() -> None:
    reader = ChunkReader(100, MessageWriter())
    for _ in range(CHUNKS_LIMIT):
        reader.begin(0, last=False)
        assert reader.feed(b"") == b""
        assert reader.finish() == 0
    reader.begin(0, last=False)
    with pytest.raises(SyntaxRefused) as refused:
        reader.finish()
    assert (refused.value.reply.code, refused.value.close) == (421, True)


def test_no_room_is_452_and_the_log_knows_why() -> None:
    held: list[int] = []

    def counted(octets: int) -> None:
        if octets > 0:
            raise Unavailable("no memory")
        held.append(octets)

    reader = ChunkReader(100, MessageWriter(counted=counted))
    reader.begin(3, last=True)
    assert reader.feed(b"a\r\n") == b""
    with pytest.raises(SyntaxRefused) as refused:
        reader.finish()
    assert refused.value.reply.code == 452
    assert str(refused.value.__cause__) == "no memory"
    assert held == []


def test_a_full_disk_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: MessageWriter) -> Message:
        raise Unavailable("disk full")

    monkeypatch.setattr(MessageWriter, "finish", full)
    assert read([b"a\r\n"]) == Reply(452, "4.3.1", ("No room for the message now, try again later",))


def test_a_chunk_that_nobody_wants() -> None:
    reader = ChunkReader(6, None)
    reader.begin(6, last=True)
    assert reader.feed(b"a\nb\rc\0x") == b"x"
    assert reader.size == 6
    reader.abandon()
