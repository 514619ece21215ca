"""The whole dialogue: whole or octet by octet the same replies, and no message without a complete, valid dialogue.

The input is cut into turns behind every EHLO, HELO, DATA and STARTTLS line, as an honest client would wait there;
what is glued behind those lines is another matter, and has tests of its own.
"""

import re

from gateway.mail.message import MessageWriter
from gateway.mail.reply import Reply
from gateway.smtp.events import Content, Event, Greeted, Mail, Rcpt, Rules, Say, StartTls
from gateway.smtp.protocol import Dialogue

SEEDS = [
    b"EHLO a\r\nMAIL FROM:<a@a.example> SIZE=9 BODY=7BIT\r\nRCPT TO:<b@b.example>\r\nDATA\r\nA: b\r\n..\r\n.\r\n",
    b"HELO a\r\nMAIL FROM:<>\r\nRCPT TO:<postmaster>\r\nRCPT TO:<no@b.example>\r\nDATA\r\nx\n.\r\n.\r\nNOOP\r\n",
    b"EHLO a\r\nSTARTTLS\r\nEHLO b\r\nMAIL FROM:<a@a.example>\r\nRSET\r\nMAIL FROM:<a@a.example> SIZE=9999\r\n",
    "EHLO a\r\nMAIL FROM:<ü@ü.example> SMTPUTF8\r\nRCPT TO:<ü@b.example>\r\nDATA\r\n.\r\n".encode(),
    b"EHLO a\r\nMAIL FROM:<a@a.example>\r\nRCPT TO:<b@b.example>\r\nDATA\r\n"
    + b"x" * 300
    + b"\r\n.\r\nVRFY a\r\nHELP\r\n",
]
TOKENS = [
    b"EHLO a\r\n",
    b"HELO a\r\n",
    b"MAIL FROM:<a@a.example>\r\n",
    b"RCPT TO:<b@b.example>\r\n",
    b"DATA\r\n",
    b"STARTTLS\r\n",
    b"RSET\r\n",
    b"QUIT\r\n",
    b"BDAT 3 LAST\r\n",
    b"\r\n.\r\n",
    b".\r\n",
    b"\r\n",
    b"\r",
    b"\n",
    b"\0",
    b"SMTPUTF8",
    b"SIZE=",
    b" ",
    b"<>",
]
_TURN = re.compile(rb"(?:EHLO|HELO|DATA|STARTTLS)[^\r\n]*\r\n", re.IGNORECASE)
_RULES = Rules("mx.example.com", message=200, recipients=2, starttls="offered")


class _House:
    """Takes everything but recipients `no@`; remembers what a message needs."""

    def __init__(self) -> None:
        self.dialogue = Dialogue(_RULES, writer=lambda: MessageWriter(64))
        self.replies: list[bytes] = []
        self.messages: list[bytes] = []
        self.greeted = False
        self.sender = False
        self.recipients = 0
        self.closed = False

    def feed(self, octets: bytes) -> None:
        self.dialogue.receive(octets)
        while (event := self.dialogue.next_event()) is not None:
            assert not self.closed
            said = self.settle(event)
            self.replies.append(said.reply.encode())
            if said.ended:
                self.sender, self.recipients = False, 0
            self.closed = said.close
        assert self.closed or self.dialogue.waiting_octets <= 2050

    def settle(self, event: Event) -> Say:
        match event:
            case Greeted(_, _, reply, ended):
                self.greeted = True
                return Say(reply, ended=ended)
            case StartTls(reply, ended):
                self.dialogue.secured()
                self.greeted, self.sender, self.recipients = False, False, 0
                return Say(reply, ended=ended)
            case Mail():
                assert self.greeted
                assert not self.sender
                self.sender = True
                return self.dialogue.decide(Reply(250, "2.1.0", ("OK",)))
            case Rcpt(recipient):
                assert self.sender
                if recipient.mailbox.local == "no":
                    return self.dialogue.decide(Reply(550, "5.1.1", ("No",)))
                self.recipients += 1
                assert self.recipients <= _RULES.recipients
                return self.dialogue.decide(Reply(250, "2.1.5", ("OK",)))
            case Content(message):
                assert self.sender
                assert self.recipients
                octets = bytes(message.view())
                assert len(octets) <= _RULES.message
                assert not set(octets.replace(b"\r\n", b"")) & set(b"\r\n\0")
                self.messages.append(octets)
                self.sender, self.recipients = False, 0
                return self.dialogue.decide(Reply(250, "2.0.0", ("OK",)))
            case Say():
                return event


def one(data: bytes) -> None:
    whole, single = _House(), _House()
    start = 0
    for end in [*(turn.end() for turn in _TURN.finditer(data)), len(data)]:
        whole.feed(data[start:end])
        for octet in data[start:end]:
            single.feed(bytes([octet]))
        start = end
    assert whole.replies == single.replies
    assert whole.messages == single.messages
    assert whole.closed == single.closed
