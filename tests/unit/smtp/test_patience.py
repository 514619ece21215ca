"""Deadlines by table, with times handed in."""

from gateway.mail.message import MessageWriter
from gateway.smtp.chunks import ChunkReader
from gateway.smtp.patience import LINGER_SECONDS, Deadlines, Patience
from gateway.smtp.reader import DataReader

TIMES = Deadlines(greeting=10, command=20, data=30, session=100, rate=100)


def reader(octets: int) -> DataReader:
    made = DataReader(10_000, MessageWriter())
    made.feed(b"x" * octets)
    return made


def test_nobodys_time_is_up_before_anything_is_awaited() -> None:
    assert not Patience(TIMES, 0).over(10_000)


def test_greeting_and_command() -> None:
    patience = Patience(TIMES, 0)
    patience.command(0, greeted=False)
    assert not patience.over(9.9)
    assert patience.over(10)
    patience.command(5, greeted=True)
    assert not patience.over(24.9)
    assert patience.over(25)


def test_the_session_as_a_whole() -> None:
    patience = Patience(TIMES, 50)
    patience.command(145, greeted=True)
    assert not patience.over(149.9)
    assert patience.over(150)
    patience.content(149, reader(9000))
    assert not patience.over(150), "a message that comes is not cut"
    assert not patience.session_over(149.9)
    assert patience.session_over(150)


def test_content() -> None:
    patience = Patience(TIMES, 0)
    patience.content(0, reader(9000))
    assert not patience.over(29.9)
    assert patience.over(30)


def test_the_least_rate_after_a_grace() -> None:
    patience = Patience(TIMES, 0)
    patience.content(0, reader(0))
    assert not patience.over(10)
    assert patience.over(10.1)
    patience.content(0, reader(1500))
    assert not patience.over(14.9)
    assert patience.over(15.1)


def test_all_chunks_of_a_message_have_one_deadline_and_one_rate() -> None:
    patience, chunks = Patience(TIMES, 0), ChunkReader(10_000, None)
    chunks.begin(5000, last=False)
    chunks.feed(b"x" * 2000)
    patience.content(0, chunks)
    patience.content(12, chunks)  # another chunk began
    assert patience.reader is chunks
    assert not patience.over(19.9)
    assert patience.over(20.1), "2,000 octets are too few after 20 seconds"
    chunks.feed(b"x" * 3000)
    assert not patience.over(29.9)
    assert patience.over(30)
    patience.command(30, greeted=True)
    chunks.begin(5000, last=True)
    patience.content(31, chunks)  # a new message is timed anew
    assert not patience.over(60.9)


def test_our_own_work_takes_none_of_it() -> None:
    patience = Patience(TIMES, 0)
    patience.content(0, reader(0))
    patience.working()
    assert not patience.over(99)


def test_a_while_for_the_last_word() -> None:
    patience = Patience(TIMES, 0)
    patience.content(0, reader(0))
    patience.leaving(20)
    assert not patience.over(20 + LINGER_SECONDS - 0.1)
    assert patience.over(20 + LINGER_SECONDS)


def test_a_fast_beginning_buys_no_long_stall() -> None:
    patience, some = Patience(Deadlines(data=1000, session=1000, rate=10), 0), reader(9000)
    patience.content(0, some)
    assert not patience.over(30)
    assert not patience.over(59.9)
    assert patience.over(60), "nothing came for the last thirty seconds"
    some.feed(b"x" * 300)
    assert not patience.over(60)
