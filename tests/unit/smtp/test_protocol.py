"""Dialogues as conversations: what the client says on the left, what happens on the right."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.mail.message import MessageWriter
from gateway.mail.reply import Reply
from gateway.smtp.events import Become, Content, Event, Greeted, Mail, Rcpt, Rules, Say, StartTls
from gateway.smtp.protocol import Dialogue
from gateway.smtp.tally import ERRORS_LIMIT, IDLE_COMMANDS_LIMIT, RCPT_COMMANDS_FACTOR

RULES = Rules("mx.example.com", message=1000, recipients=3, starttls="offered")
OK = Reply(250, "2.1.0", ("OK",))
NO = Reply(550, "5.1.1", ("No such user",))


class Talk:
    """Drives a dialogue: accepts everything but recipients that begin with `no`."""

    def __init__(
        self, rules: Rules = RULES, *, tls: bool = False, tls_ready: bool = True, xclient: bool = False
    ) -> None:
        self.dialogue = Dialogue(rules, tls=tls, tls_ready=lambda: tls_ready, writer=MessageWriter, xclient=xclient)
        self.messages: list[bytes] = []
        self.ended: list[str] = []
        self.closed = False

    def say(self, octets: bytes) -> list[str]:
        """The replies to these octets: code and status."""
        self.dialogue.receive(octets)
        replies = []
        while (event := self.dialogue.next_event()) is not None:
            assert not self.closed
            replies.append(self.settle(event))
        return replies

    def settle(self, event: Event) -> str:
        match event:
            case Rcpt(recipient) if recipient.mailbox.local == "no":
                said = self.dialogue.decide(NO)
            case Rcpt(recipient) if recipient.mailbox.local == "bye":
                said = self.dialogue.decide(Reply(421, "4.3.0", ("Bye",)))
            case Mail(envelope) if envelope.reverse_path is not None and envelope.reverse_path.local == "no":
                said = self.dialogue.decide(Reply(550, "5.7.1", ("No",)))
            case Mail() | Rcpt():
                said = self.dialogue.decide(OK)
            case Content(message):
                self.messages.append(bytes(message.view()))
                said = self.dialogue.decide(Reply(250, "2.0.0", ("Taken",)))
            case StartTls(reply, ended):
                assert self.dialogue.next_event() is None
                self.dialogue.secured()
                said = Say(reply, ended=ended)
            case Greeted(_, _, reply, ended):
                said = Say(reply, ended=ended)
            case Become():
                said = self.dialogue.become(Reply(220, "", ("again",)))
            case Say():
                said = event
        if said.ended:
            self.ended.append(said.ended)
        self.closed = said.close
        return f"{said.reply.code} {said.reply.status}".strip()

    def mail(self) -> "Talk":
        """In a transaction with one recipient."""
        assert self.say(b"EHLO a.example\r\n") == ["250"]
        assert self.say(b"MAIL FROM:<a@a.example>\r\nRCPT TO:<b@b.example>\r\n") == ["250 2.1.0", "250 2.1.0"]
        return self

    def data(self) -> "Talk":
        """The same, and the content may come."""
        assert self.mail().say(b"DATA\r\n") == ["354"]
        return self


def test_a_whole_session() -> None:
    talk = Talk().data()
    assert talk.dialogue.reading is not None
    assert talk.say(b"A: b\r\n\r\n..\r\n") == []
    assert talk.say(b".\r\nMAIL FROM:<>\r\nRCPT TO:<postmaster>\r\nDATA\r\n") == [
        "250 2.0.0",
        "250 2.1.0",
        "250 2.1.0",
        "354",
    ]
    assert talk.say(b".\r\nQUIT\r\n") == ["250 2.0.0", "221 2.0.0"]
    assert talk.closed
    assert talk.messages == [b"A: b\r\n\r\n.\r\n", b""]
    assert talk.ended == []


def test_ehlo_offers_what_we_have() -> None:
    def offered(talk: Talk, line: bytes = b"EHLO a.example\r\n") -> tuple[str, ...]:
        talk.dialogue.receive(line)
        event = talk.dialogue.next_event()
        assert isinstance(event, Greeted)
        return event.reply.text

    usual = ("mx.example.com", "SIZE 1000", "PIPELINING", "8BITMIME", "SMTPUTF8", "CHUNKING", "DSN")
    usual += ("ENHANCEDSTATUSCODES", "LIMITS RCPTMAX=3")
    assert offered(Talk()) == (*usual, "STARTTLS")
    assert offered(Talk(tls=True)) == usual
    assert offered(Talk(Rules("mx.example.com", 1000, 3))) == usual
    assert offered(Talk(), b"HELO a.example\r\n") == ("mx.example.com",)


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        (b"NOOP", "250 2.0.0"),
        (b"noop with words", "250 2.0.0"),
        (b"RSET", "250 2.0.0"),
        (b"RSET now", "501 5.5.2"),
        (b"HELP", "214 2.0.0"),
        (b"HELP MAIL", "214 2.0.0"),
        (b"VRFY postmaster", "252 2.0.0"),
        (b"VRFY", "501 5.5.2"),
        (b"EXPN staff", "502 5.5.1"),
        (b"AUTH PLAIN AGEAYg==", "502 5.5.1"),
        (b"TURN", "500 5.5.1"),
        (b"", "500 5.5.1"),
        (b" NOOP", "500 5.5.1"),
        (b"N\xff", "500 5.5.1"),
        (b"QUIT now", "501 5.5.2"),
        (b"EHLO", "501"),
        (b"EHLO a b", "501"),
        (b"HELO", "501"),
        (b"MAIL FROM:<a@b.example>", "503 5.5.1"),
        (b"RCPT TO:<a@b.example>", "503 5.5.1"),
        (b"DATA", "503 5.5.1"),
        (b"STARTTLS now", "501 5.5.2"),
        (b"x" * 511, "500 5.5.2"),
    ],
)
def test_before_any_greeting(line: bytes, reply: str) -> None:
    talk = Talk()
    assert talk.say(line + b"\r\n") == [reply]
    assert not talk.closed


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        (b"MAIL FROM:<a@b.example>", "503 5.5.1"),
        (b"RCPT TO:<>", "501 5.1.3"),
        (b"RCPT TO:<no@b.example>", "550 5.1.1"),
        (b"RCPT TO:<a@b.example> X=1", "555 5.5.4"),
        ("RCPT TO:<ü@b.example>".encode(), "553 5.6.7"),
        (b"DATA now", "501 5.5.2"),
    ],
)
def test_in_a_transaction(line: bytes, reply: str) -> None:
    talk = Talk().mail()
    assert talk.say(line + b"\r\n") == [reply]
    assert talk.dialogue.in_transaction
    assert talk.say(b"DATA\r\n") == ["354"]


def test_data_needs_a_recipient() -> None:
    talk = Talk()
    talk.say(b"EHLO a\r\n")
    assert talk.say(b"MAIL FROM:<a@a.example>\r\nDATA\r\n") == ["250 2.1.0", "503 5.5.1"]
    assert talk.say(b"RCPT TO:<no@b.example>\r\nDATA\r\n") == ["550 5.1.1", "503 5.5.1"]


def test_a_refused_mail_opens_nothing() -> None:
    talk = Talk()
    talk.say(b"EHLO a\r\n")
    assert talk.say(b"MAIL FROM:<no@a.example>\r\nRCPT TO:<b@b.example>\r\n") == ["550 5.7.1", "503 5.5.1"]


@pytest.mark.parametrize(
    ("octets", "why", "closed"),
    [
        (b"RSET\r\n", "RSET", False),
        (b"EHLO a\r\n", "EHLO", False),
        (b"HELO a\r\n", "HELO", False),
        (b"STARTTLS\r\n", "STARTTLS", False),
        (b"QUIT\r\n", "QUIT", True),
        (b"NOOP\n", "refused", True),
        (b"BDAT all\r\n", "refused", True),
        (b"GET / HTTP/1.1\r\n", "refused", True),
        (b"RCPT TO:<bye@b.example>\r\n", "refused", True),
        (b"FOO\r\n" * (ERRORS_LIMIT + 1), "refused", True),
    ],
)
def test_what_ends_a_transaction(octets: bytes, why: str, closed: bool) -> None:
    talk = Talk().mail()
    talk.say(octets)
    assert (talk.ended, talk.closed) == ([why], closed)
    assert not talk.dialogue.in_transaction
    if not closed:
        assert talk.say(b"DATA\r\n") == ["503 5.5.1"]


@pytest.mark.parametrize(
    ("octets", "reply"),
    [
        (b"EHLO a\r\nMAIL FROM:<a@a.example>\r\n", "503"),
        (b"HELO a\r\nNOOP\r\n", "503"),
        (b"DATA\r\nA: b\r\n.\r\n", "503 5.5.0"),
        (b"STARTTLS\r\nNOOP\r\n", "503 5.5.0"),
        (b"STARTTLS\r\n\x16\x03\x01", "503 5.5.0"),
    ],
)
def test_what_is_glued_behind_a_turning_point_closes(octets: bytes, reply: str) -> None:
    talk = Talk().mail()
    assert talk.say(octets) == [reply]
    assert talk.closed
    assert talk.messages == []
    assert talk.say(b"NOOP\r\n") == []


def test_nothing_said_in_clear_survives_starttls() -> None:
    talk = Talk().mail()
    assert talk.say(b"STARTTLS\r\n") == ["220 2.0.0"]
    assert talk.say(b"RCPT TO:<b@b.example>\r\nDATA\r\nMAIL FROM:<a@a.example>\r\nSTARTTLS\r\n") == [
        "503 5.5.1",
        "503 5.5.1",
        "503 5.5.1",
        "503 5.5.1",
    ]
    assert talk.say(b"EHLO a\r\n") == ["250"]


def test_starttls_as_the_door_has_it() -> None:
    assert Talk(Rules("mx.example.com")).say(b"STARTTLS\r\n") == ["502 5.5.1"]
    assert Talk(tls_ready=False).say(b"STARTTLS\r\nNOOP\r\n") == ["503 5.5.0"]
    assert Talk(tls_ready=False).say(b"STARTTLS\r\n") == ["454 4.7.0"]
    required = Talk(Rules("mx.example.com", starttls="required"))
    assert required.say(b"EHLO a\r\n") == ["250"]
    assert required.say(
        b"NOOP\r\nRSET\r\nMAIL FROM:<a@a.example>\r\nRCPT TO:<a@b>\r\nDATA\r\nVRFY a\r\nHELP\r\nFOO\r\n"
    ) == [
        "250 2.0.0",
        "250 2.0.0",
        *["530 5.7.0"] * 5,
        "500 5.5.1",
    ]
    assert required.say(b"STARTTLS\r\n") == ["220 2.0.0"]
    assert required.say(b"EHLO a\r\n") == ["250"]
    assert required.say(b"MAIL FROM:<a@a.example>\r\nQUIT\r\n") == ["250 2.1.0", "221 2.0.0"]


def test_recipients_are_counted() -> None:
    talk = Talk().mail()
    rcpt = b"RCPT TO:<b@b.example>\r\n"
    assert talk.say(rcpt * 3) == ["250 2.1.0", "250 2.1.0", "452 4.5.3"]
    commands = RCPT_COMMANDS_FACTOR * RULES.recipients
    assert talk.say(rcpt * (commands - 4)) == ["452 4.5.3"] * (commands - 4)
    assert talk.say(rcpt) == ["421 4.7.0"]
    assert talk.closed


def test_refused_recipients_do_not_count_as_taken() -> None:
    talk = Talk().mail()
    assert talk.say(b"RCPT TO:<no@b.example>\r\n" * 5 + b"RCPT TO:<b@b.example>\r\n")[-1] == "250 2.1.0"


def test_commands_without_mail_are_bounded() -> None:
    talk = Talk()
    assert talk.say(b"NOOP\r\n" * (IDLE_COMMANDS_LIMIT + 5))[-1] == "421 4.7.0"
    assert talk.closed
    talk = Talk().data()
    for _ in range(3):  # a message starts the count anew
        assert talk.say(b".\r\n" + b"NOOP\r\n" * (IDLE_COMMANDS_LIMIT - 10))[-1] == "250 2.0.0"
        assert talk.say(b"MAIL FROM:<>\r\nRCPT TO:<b@b.example>\r\nDATA\r\n")[-1] == "354"


def test_smuggling_content_is_refused_and_closes() -> None:
    talk = Talk().data()
    assert talk.say(b"a\n.\nMAIL FROM:<x@x.example>\r\n") == []
    assert talk.say(b".\r\nMAIL FROM:<x@x.example>\r\n") == ["554 5.6.0"]
    assert talk.closed
    assert talk.ended == ["content refused: A bare CR, a bare LF or a NUL in the message"]


def test_content_over_the_limit_is_refused_and_the_session_goes_on() -> None:
    talk = Talk().data()
    assert talk.say(b"x" * 998 + b"\r\nx\r\n.\r\nNOOP\r\n") == ["552 5.3.4", "250 2.0.0"]
    assert talk.messages == []
    assert not talk.dialogue.in_transaction


def test_octets_wait_while_the_house_decides() -> None:
    talk = Talk()
    talk.say(b"EHLO a\r\n")
    talk.dialogue.receive(b"MAIL FROM:<a@a.example>\r\nNOOP\r\n")
    assert isinstance(talk.dialogue.next_event(), Mail)
    assert talk.dialogue.next_event() is None
    talk.dialogue.receive(b"NOOP\r\n")
    assert talk.dialogue.waiting_octets == 12
    assert talk.dialogue.decide(OK) == Say(OK)
    assert talk.say(b"") == ["250 2.0.0"] * 2


def test_deciding_nothing_is_our_bug() -> None:
    with pytest.raises(RuntimeError):
        Talk().dialogue.decide(OK)


def test_hanging_up_drops_what_was_read() -> None:
    talk = Talk().data()
    talk.say(b"x" * 500)
    said = talk.dialogue.hang_up(Reply(421, "4.4.2", ("Timeout",)), "timeout")
    assert (said.close, said.ended) == (True, "timeout")
    assert talk.dialogue.reading is None
    assert talk.say(b".\r\nNOOP\r\n") == []


def test_chunks_make_a_message() -> None:
    talk = Talk().mail()
    assert talk.say(b"BDAT 6\r\nA: b\r\nBDAT 2\r\n\r\nBDAT 5 last\r\n\r\n.\r\nNOOP\r\n") == [
        "250 2.0.0",
        "250 2.0.0",
        "250 2.0.0",
        "250 2.0.0",
    ]
    assert talk.messages == [b"A: b\r\n\r\n\r\n.\r\n"], "a dot is content"
    assert not talk.dialogue.in_transaction
    assert talk.mail().say(b"BDAT 1\r\nxBDAT 0 LAST\r\n") == ["250 2.0.0", "250 2.0.0"]
    assert talk.messages[1:] == [b"x\r\n"], "a last line without its end gets one"
    assert talk.mail().say(b"BDAT 0 LAST\r\n") == ["250 2.0.0"]
    assert talk.messages[2:] == [b""]


def test_between_chunks() -> None:
    talk = Talk().mail()
    assert talk.say(b"BDAT 3\r\na\r\n") == ["250 2.0.0"]
    reading = talk.dialogue.reading
    assert reading is not None
    assert reading.size == 3
    assert talk.say(b"DATA\r\nRCPT TO:<b@b.example>\r\nMAIL FROM:<>\r\nNOOP\r\n") == ["503 5.5.1"] * 3 + ["250 2.0.0"]
    assert talk.dialogue.reading is reading
    assert talk.say(b"RSET\r\n") == ["250 2.0.0"]
    assert talk.dialogue.reading is None
    assert talk.ended == ["RSET"]
    assert talk.mail().say(b"DATA\r\n") == ["354"]
    assert talk.say(b"x\r\n.\r\n") == ["250 2.0.0"]
    assert talk.messages == [b"x\r\n"], "nothing of the chunk is left"


@pytest.mark.parametrize(
    ("before", "replies"),
    [
        (b"", ["503 5.5.1"]),
        (b"HELO a\r\n", ["503 5.5.1"]),
        (b"EHLO a\r\n", ["503 5.5.1"]),
    ],
)
def test_a_chunk_out_of_turn_is_read_and_dropped(before: bytes, replies: list[str]) -> None:
    talk = Talk()
    talk.say(before)
    assert talk.say(b"BDAT 12\r\nRSET\r\nQUIT\r\n") == replies
    assert talk.say(b"NOOP\r\n") == ["250 2.0.0"]
    assert not talk.closed
    talk.say(b"EHLO a\r\n")
    assert talk.say(b"MAIL FROM:<>\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n") == ["250 2.1.0", "503 5.5.1", "250 2.0.0"]
    assert talk.messages == []


def test_a_refused_chunk_ends_its_transaction() -> None:
    """Else the chunks after it would be taken for the whole message (RFC 3030 section 2)."""
    talk = Talk()
    talk.say(b"EHLO a\r\n")
    talk.say(b"MAIL FROM:<>\r\n")
    assert talk.say(b"BDAT 4\r\nX:\r\nRCPT TO:<b@b.example>\r\nBDAT 0 LAST\r\n") == ["503 5.5.1"] * 3
    assert talk.ended == ["a chunk out of turn"]
    assert talk.mail().say(b"BDAT 0 LAST\r\n") == ["250 2.0.0"]
    assert talk.messages == [b""]


def test_a_chunk_in_clear_text_where_tls_is_required() -> None:
    talk = Talk(Rules("mx.example.com", starttls="required"))
    talk.say(b"EHLO a\r\n")
    assert talk.say(b"BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n") == ["530 5.7.0", "250 2.0.0"]


def test_a_message_of_chunks_over_the_limit() -> None:
    talk = Talk().mail()
    assert talk.say(b"BDAT 900\r\n" + b"x" * 900) == ["250 2.0.0"]
    assert talk.say(b"BDAT 5000\r\n" + b"QUIT\r\n" * 100) == []
    assert talk.say(b"x" * 4400 + b"BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n") == ["552 5.3.4", "503 5.5.1", "250 2.0.0"]
    assert talk.messages == []
    assert talk.ended == ["content refused: The message is larger than 1000 octets"]


def test_messages_of_a_session_are_bounded() -> None:
    talk = Talk(replace(RULES, messages=2))
    assert talk.say(b"EHLO a\r\n") == ["250"]
    refused = b"MAIL FROM:<no@a.example>\r\nMAIL FROM:<\r\n"
    assert talk.say(refused * 3) == ["550 5.7.1", "501 5.1.7"] * 3, "those never were"
    assert talk.say(b"MAIL FROM:<>\r\nRSET\r\nMAIL FROM:<>\r\nRCPT TO:<b@b.example>\r\nDATA\r\n")[-1] == "354"
    assert talk.say(b".\r\nNOOP\r\n") == ["250 2.0.0"] * 2
    assert talk.say(b"STARTTLS\r\n") == ["220 2.0.0"]
    assert talk.say(b"EHLO a\r\n") == ["250"]
    assert talk.say(b"MAIL FROM:<>\r\n") == ["421 4.7.0"]
    assert talk.closed


def test_smuggling_by_chunks_is_refused_and_closes() -> None:
    for octets in (b"a\nb\r\n", b"a\rb\r\n", b"a\0\r\n", b"a\r", b"\n"):
        talk = Talk().mail()
        said = talk.say(b"BDAT %d LAST\r\n%bMAIL FROM:<>\r\n" % (len(octets), octets))
        assert said == ["554 5.6.0"], octets
        assert talk.closed
    talk = Talk().mail()  # a CRLF across two chunks is one
    assert talk.say(b"BDAT 2\r\na\rBDAT 1 LAST\r\n\n") == ["250 2.0.0", "250 2.0.0"]
    assert talk.messages == [b"a\r\n"]


def test_dsn_parameters_stay_with_the_envelope() -> None:
    talk = Talk()
    talk.say(b"EHLO a\r\n")
    talk.dialogue.receive(b"MAIL FROM:<a@a.example> RET=hdrs ENVID=QQ+2B3\r\n")
    event = talk.dialogue.next_event()
    assert isinstance(event, Mail)
    assert event.envelope.parameters == (("RET", "hdrs"), ("ENVID", "QQ+2B3"))
    talk.dialogue.decide(OK)
    talk.dialogue.receive(b"RCPT TO:<b@b.example> ORCPT=rfc822;B+40b NOTIFY=SUCCESS,delay\r\n")
    event = talk.dialogue.next_event()
    assert isinstance(event, Rcpt)
    assert event.recipient.parameters == (("ORCPT", "rfc822;B+40b"), ("NOTIFY", "SUCCESS,delay"))


def test_xclient_is_for_the_trusted() -> None:
    assert Talk().say(b"XCLIENT ADDR=192.0.2.1\r\n") == ["550 5.7.0"]
    talk = Talk(xclient=True)
    assert talk.say(b"EHLO a\r\n") == ["250"]
    assert talk.say(b"XCLIENT ADDR=x\r\n") == ["501 5.5.4"]
    assert talk.say(b"XCLIENT ADDR=192.0.2.1\r\n") == ["220"]
    assert talk.say(b"MAIL FROM:<>\r\n") == ["503 5.5.1"]
    talk = Talk(xclient=True).mail()
    assert talk.say(b"XCLIENT ADDR=192.0.2.1\r\n") == ["503 5.5.1"]
    assert talk.closed
    talk = Talk(xclient=True)
    assert talk.say(b"XCLIENT ADDR=192.0.2.1\r\nEHLO a\r\n") == ["503 5.5.0"]
    talk = Talk(xclient=True)
    talk.dialogue.receive(b"XCLIENT ADDR=192.0.2.1\r\n")
    assert isinstance(talk.dialogue.next_event(), Become)
    assert talk.dialogue.become(Reply(421, "4.3.2", ("No",))).close


TURNS = st.lists(
    st.lists(
        st.sampled_from(
            [b"MAIL FROM:<a@a.example>\r\n", b"MAIL FROM:<no@a.example> SIZE=1\r\n", b"RCPT TO:<b@b.example>\r\n"] * 3
            + [
                b"RCPT TO:<no@b.example>\r\n",
                b"NOOP\r\n",
                b"RSET\r\n",
                b"FOO\r\n",
                b"\r\n",
                b"\r",
                b"\n",
                b"\0",
                b"x" * 600,
            ]
            + [b"QUIT\r\n", b"x", b"DAT", b"A: b\r\n\r\n..\r\n", b"\r\n.\r\n", b".\r\n", b"GET /\r\n", b"\xff\r\n"]
            + [b"BDAT 3\r\n", b"BDAT 0\r\n", b"BDAT 6 LAST\r\n", b"BDAT 700\r\n", b"BDAT\r\n", b"abc", b"\r\n"]
        ),
        max_size=6,
    ).map(b"".join),
    max_size=6,
)
LAST = st.lists(
    st.sampled_from([b"EHLO a\r\n", b"DATA\r\n", b"HELO a\r\n", b"STARTTLS\r\n", b".\r\n", b""]), min_size=6
)


# How fast the machine is at this moment says nothing about dialogues.
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(TURNS, LAST)
def test_whole_or_octet_by_octet_the_same(turns: list[bytes], last: list[bytes]) -> None:
    whole, single = Talk(), Talk()
    try:
        _compare(whole, single, turns, last)
    finally:  # content that has no end yet
        for talk in (whole, single):
            talk.dialogue.hang_up(Reply(421, "4.4.2", ("Bye",)), "")


def _compare(whole: Talk, single: Talk, turns: list[bytes], last: list[bytes]) -> None:
    for turn, end in zip(turns, last, strict=False):
        octets = turn + end
        replies = whole.say(octets)
        one_by_one: list[str] = []
        for octet in octets:
            one_by_one += single.say(bytes([octet]))
        # Out of turn: the octets behind a turning point were there at once, or came after our reply.
        if "503" in replies or "503 5.5.0" in replies:
            return
        assert one_by_one == replies
    assert whole.messages == single.messages
    assert whole.ended == single.ended
