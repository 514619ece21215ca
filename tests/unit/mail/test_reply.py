"""Wrong replies cannot be made."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mail.reply import LINE_LIMIT, Reply, SyntaxRefused, printable


@pytest.mark.parametrize(
    ("code", "status", "text"),
    [
        (550, "4.7.1", ("contradiction",)),
        (250, "5.0.0", ("contradiction",)),
        (199, "", ("too low",)),
        (600, "", ("too high",)),
        (550, "5.7", ("half a status",)),
        (550, "5.7.1000", ("too long a status",)),
        (550, "5.7.1\n", ("a line in the status",)),
        (550, "5.7.1", ()),
        (550, "5.7.1", ("two\r\nlines",)),
        (550, "5.7.1", ("nul\0",)),
        (550, "5.7.1", ("ümlaut",)),
        (550, "5.7.1", ("x" * LINE_LIMIT,)),
    ],
)
def test_contradictions_and_injections_are_refused(code: int, status: str, text: tuple[str, ...]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any text will do
        Reply(code, status, text)


def test_on_the_wire() -> None:
    assert Reply(250, "2.1.0", ("OK",)).encode() == b"250 2.1.0 OK\r\n"
    assert Reply(250, "", ("mx.example", "SIZE 1", "PIPELINING")).encode() == (
        b"250-mx.example\r\n250-SIZE 1\r\n250 PIPELINING\r\n"
    )
    assert Reply(550, "5.1.1", ("a", "b")).encode() == b"550-5.1.1 a\r\n550 5.1.1 b\r\n"


def test_the_id_is_the_last_word() -> None:
    assert Reply(550, "5.7.1", ("No", "way")).with_id("T1").text == ("No", "way T1")
    assert Reply(550, "5.7.1", ("",)).with_id("T1").text == ("T1",)


def test_classes() -> None:
    assert Reply(354, "", ("Go",)).accepted
    assert not Reply(451, "4.3.0", ("No",)).accepted
    assert Reply(550, "5.7.1", ("No",)).permanent
    assert not Reply(451, "4.3.0", ("No",)).permanent


@pytest.mark.parametrize(
    ("reply", "soft"),
    [
        (Reply(550, "5.7.1", ("No",)), Reply(451, "4.7.1", ("No",))),
        (Reply(552, "5.3.4", ("No",)), Reply(452, "4.3.4", ("No",))),
        (Reply(501, "", ("No",)), Reply(451, "", ("No",))),
        (Reply(250, "2.0.0", ("Yes",)), Reply(250, "2.0.0", ("Yes",))),
    ],
)
def test_softened(reply: Reply, soft: Reply) -> None:
    assert reply.softened() == soft


@given(st.text(max_size=600))
def test_any_text_can_be_said_safely(text: str) -> None:
    reply = Reply.of(550, "5.7.1", text)
    assert reply.encode().count(b"\n") == 1
    assert len(reply.encode()) <= LINE_LIMIT
    assert len(printable(text)) <= 400


def test_nothing_is_still_a_line() -> None:
    assert Reply.of(250, "2.0.0").encode() == b"250 2.0.0 \r\n"


def test_a_refusal_carries_its_reply() -> None:
    refused = SyntaxRefused(Reply(500, "5.5.2", ("What",)), close=True)
    assert (str(refused), refused.close, refused.reply.code) == ("What", True, 500)
