"""A client's octets: whole or one by one within a turn the same events; no accepted message holds anything bare."""

from gateway.mail.reply import Reply
from gateway.smtp.events import Content, Mail, Rcpt, Rules, Say, StartTls
from gateway.smtp.protocol import Dialogue

# A bar ends the client's turn: it reads our replies before it goes on.
SEEDS = [
    b"EHLO a.example\r\n|MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n|Subject: x\r\n\r\n..\r\n.\r\n|QUIT\r\n",
    b"HELO a\r\n|MAIL FROM:<>\r\n|RCPT TO:<c@example.com>\r\n|RSET\r\n|VRFY x\r\n|NOOP\r\n|HELP\r\n|",
    b"EHLO a\r\n|STARTTLS\r\n|EHLO a\r\n|MAIL FROM:<a@b.example> SIZE=10 BODY=8BITMIME SMTPUTF8\r\n|",
    b"EHLO a\r\n|STARTTLS\r\nMAIL FROM:<a@b.example>\r\n|",
    b"GET / HTTP/1.1\r\n|PROXY TCP4 1 2 3 4\r\n|BDAT 10 LAST\r\n0123456789|",
    b"EHLO a\r\n|MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n|x\n.\nMAIL FROM:<e@f>\r\n.\r\n|NOOP\r\n|",
]
TOKENS = [
    *(b"|", b"\r\n", b"\n", b"\r", b"\0", b" ", b".\r\n", b"\r\n.\r\n", b"DATA\r\n", b"RSET\r\n", b"STARTTLS\r\n"),
    *(b"MAIL FROM:<a@b>\r\n", b"RCPT TO:<c@d>\r\n", b"EHLO a\r\n", b"QUIT\r\n", b"BDAT 3\r\n", b"SIZE=", b"x" * 600),
]


def told(turns: list[list[bytes]]) -> list[object]:
    """All that the dialogue says when every turn comes in those pieces, and everything is granted."""
    dialogue = Dialogue(Rules("mx.example.com", 2000, 5, "offered"))
    events: list[object] = []
    for pieces in turns:
        for piece in pieces:
            dialogue.receive(piece)
        while (event := dialogue.next_event()) is not None:
            match event:
                case Content(message):
                    octets = bytes(message.view())
                    assert not set(octets.replace(b"\r\n", b"")) & set(b"\r\n\0")
                    events += [octets, dialogue.decide(Reply(250, "2.0.0", ("OK",)))]
                case Mail() | Rcpt():
                    events += [event, dialogue.decide(Reply(250, "2.1.0", ("OK",)))]
                case StartTls():
                    dialogue.secured()
                    events.append(event)
                case _:
                    events.append(event)
            if isinstance(event, Say) and event.close:
                return events
    return events


def one(data: bytes) -> None:
    turns = data.split(b"|")
    whole = told([[turn] for turn in turns])
    assert told([[bytes([octet]) for octet in turn] for turn in turns]) == whole
    assert told([[turn[:7], turn[7:]] for turn in turns]) == whole
