"""A client's octets: whole or one by one within a turn the same events; no accepted message holds anything bare, and
none comes without MAIL and RCPT accepted in the same transaction, by EHLO or HELO, in the order of the standard."""

import contextlib
from pathlib import Path

from gateway.mail.reply import Reply
from gateway.smtp.events import Become, Content, Greeted, Mail, Rcpt, Rules, Say, StartTls
from gateway.smtp.protocol import Dialogue

# A bar ends the client's turn: it reads our replies before it goes on.
SEEDS = [
    b"EHLO a.example\r\n|MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n|Subject: x\r\n\r\n..\r\n.\r\n|QUIT\r\n",
    b"HELO a\r\n|MAIL FROM:<>\r\n|RCPT TO:<c@example.com>\r\n|RSET\r\n|VRFY x\r\n|NOOP\r\n|HELP\r\n|",
    b"EHLO a\r\n|STARTTLS\r\n|EHLO a\r\n|MAIL FROM:<a@b.example> SIZE=10 BODY=8BITMIME SMTPUTF8\r\n|",
    b"EHLO a\r\n|STARTTLS\r\nMAIL FROM:<a@b.example>\r\n|",
    b"GET / HTTP/1.1\r\n|PROXY TCP4 1 2 3 4\r\n|BDAT 10 LAST\r\n0123456789|",
    b"EHLO a\r\n|MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n|x\n.\nMAIL FROM:<e@f>\r\n.\r\n|NOOP\r\n|",
    b"EHLO a\r\n|MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 3\r\na\r\nBDAT 5 LAST\r\n\r\n.\r\n|NOOP\r\n|",
    b"EHLO a\r\n|MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 2\r\na\rBDAT 1 LAST\r\n\n|BDAT 4\r\nQUIT|NOOP\r\n|",
    b"EHLO a\r\n|MAIL FROM:<a@b> RET=HDRS ENVID=a+2Bb\r\nRCPT TO:<c@d> NOTIFY=NEVER ORCPT=rfc822;c@d\r\n|RSET\r\n|",
    b"XCLIENT ADDR=192.0.2.1 HELO=a\r\n|EHLO a\r\n|MAIL FROM:<no@b>\r\nBDAT 6\r\nQUIT\r\nRCPT TO:<no@d>\r\n|",
]
TOKENS = [
    *(b"|", b"\r\n", b"\n", b"\r", b"\0", b" ", b".\r\n", b"\r\n.\r\n", b"DATA\r\n", b"RSET\r\n", b"STARTTLS\r\n"),
    *(b"MAIL FROM:<a@b>\r\n", b"RCPT TO:<c@d>\r\n", b"EHLO a\r\n", b"QUIT\r\n", b"BDAT 3\r\n", b"SIZE=", b"x" * 600),
    *(b"BDAT 0 LAST\r\n", b"BDAT 12\r\n", b"BDAT 3000\r\n", b"BDAT", b" LAST", b"HELO a\r\n", b"MAIL FROM:<no@b>\r\n"),
    *(
        b"RCPT TO:<no@d>\r\n",
        b"XCLIENT ADDR=192.0.2.1\r\n",
        b" NOTIFY=NEVER",
        b" ORCPT=rfc822;a+2B",
        b" ENVID=a",
        b"PROXY ",
    ),
]
#: What `grow` found: inputs that lead to different conversations, one a line.
CORPUS = Path(__file__).parent / "corpus" / "dialogue.txt"
with contextlib.suppress(FileNotFoundError):
    SEEDS += [bytes.fromhex(line) for line in CORPUS.read_text("ascii").split()]

_YES, _NO = Reply(250, "2.1.0", ("OK",)), Reply(550, "5.1.1", ("No",))


class House:
    """Grants what does not begin with `no`, and watches that nothing gets in by another way."""

    def __init__(self) -> None:
        self.greeted = False
        self.mail = False
        self.recipients = 0

    def decide(self, event: Mail | Rcpt | Content) -> Reply:
        match event:
            case Mail(envelope):
                assert self.greeted
                assert not self.mail
                self.mail = not str(envelope.reverse_path).startswith("no@")
                self.recipients = 0
                return _YES if self.mail else _NO
            case Rcpt(recipient):
                assert self.mail
                granted = not str(recipient.mailbox).startswith("no@")
                self.recipients += granted
                return _YES if granted else _NO
            case Content(message):
                assert self.mail
                assert self.recipients
                self.mail = False
                assert not set(bytes(message.view()).replace(b"\r\n", b"")) & set(b"\r\n\0")
                return _YES

    def ended(self, why: str) -> None:
        assert bool(why) == self.mail
        self.mail = False


def told(turns: list[list[bytes]]) -> list[object]:
    """All that the dialogue says when every turn comes in those pieces."""
    dialogue, house = Dialogue(Rules("mx.example.com", 2000, 5, "offered"), xclient=True), House()
    events: list[object] = []
    for pieces in turns:
        for piece in pieces:
            dialogue.receive(piece)
        while (event := dialogue.next_event()) is not None:
            events.append(bytes(event.message.view()) if isinstance(event, Content) else event)
            match event:
                case Mail() | Rcpt() | Content():
                    events.append(dialogue.decide(house.decide(event)))
                case Greeted(ended=why):
                    house.ended(why) if why else None
                    house.greeted = True
                case StartTls(ended=why):
                    house.ended(why) if why else None
                    house.greeted = False
                    dialogue.secured()
                case Become():
                    house.greeted = False
                    events.append(dialogue.become(_YES))
                case Say(ended=why):
                    if why:
                        house.ended(why)
            assert dialogue.in_transaction == house.mail
            if isinstance(event, Say) and event.close:
                return events
    dialogue.hang_up(_NO, "")
    return events


def shapes(data: bytes) -> set[str]:
    """What kind of conversation it is, for `grow`: events and reply codes in their order, repetitions once."""
    words: list[str] = []
    for event in told([[turn] for turn in data.split(b"|")]):
        reply = getattr(event, "reply", None)
        word = f"{type(event).__name__}{reply.code if reply else ''}"
        if words[-1:] != [word]:
            words.append(word)
    return {" ".join(words[:12])}


def one(data: bytes) -> None:
    turns = data.split(b"|")
    whole = told([[turn] for turn in turns])
    assert told([[bytes([octet]) for octet in turn] for turn in turns]) == whole
    assert told([[turn[:7], turn[7:]] for turn in turns]) == whole
