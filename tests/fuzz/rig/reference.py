"""A second opinion: what was validly sent, read from the client's octets and the replies alone.

Written from RFC 5321, 2034, 2920, 3030, 3207, 3461, 1870, 6152, 6531 for this test, as plainly as possible and without
a line of `gateway`. It knows no buffers: the octets are read front to back, each command with the reply it got. A
reply that no strict server may give is an `AssertionError`, and so is a refusal of what is plainly right; `finish`
wants what reached the relay to be what was validly sent, in order, once, octet for octet.
"""

import re
from collections.abc import Sequence
from typing import Protocol

from tests.fuzz.rig.readings import LINE, Reply, announced, bare, introduced, replies, same_content, unstuffed
from tests.fuzz.rig.session import KNOWN, Client, Mail, Session, Terms, expect

LONGEST_LINE = 2048
#: Refusals and commands after which 421 is no surprise.
REFUSALS, COMMANDS = 20, 100
#: A sender's name says what the backend does with the mail, and then our reply is this.
FATES = {"busy": 451, "never": 550, "lost": 451}
PLAIN_CONTENT = re.compile(rb"(?:Subject: [a-z]{1,9}\r\n)+\r\n(?:[ -~]|\r\n){0,400}")

#: The last of a group of commands (RFC 2920 section 3.1).
_ALONE = {"EHLO", "HELO", "DATA", "STARTTLS", "XCLIENT"}
_FOREIGN = {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "PRI", "PROXY"}
#: What the lines of ESMTP may be longer: RFC 1870, 6152, 6531, 3461.
_LONGER = {"MAIL": 26 + 17 + 10 + 107 + 9, "RCPT": 507 + 29}


def _no_smtp(line: bytes) -> bool:
    """True for a line that no SMTP client begins with."""
    request = re.fullmatch(rb"[a-z]+/[0-9][.][0-9]", line.rpartition(b" ")[2], re.IGNORECASE)
    return (
        not re.match(rb"[a-z ]|$", line, re.IGNORECASE) or line[:4].upper() == b"SSH-" or bool(request and b" " in line)
    )


class Sent(Protocol):
    """What reached the relay; `visit.Sent` says more."""

    mail: bytes
    recipients: list[bytes]
    content: bytes
    stuffed: bytes
    prepended: bytes
    backend: str
    delivered: bool
    client: Client


class Reference:
    """One client's visit, judged while it is read. `glued` says whether several octets of a turn may have come at
    once: `always` (a turn whole), `never` (each answered before the next), `maybe`."""

    def __init__(self, terms: Terms, glued: str) -> None:
        self.terms = terms
        self.glued = glued
        self.closed = False
        self.ended: list[Mail] = []  # whose final dot was answered
        self.how: list[str] = []  # commands and replies in short, for the corpus
        self._session = Session(terms)
        self._introduced = not terms.proxy
        self._welcomed = False
        self._chunk: tuple[int, bool] | None = None
        self._first = True
        self._buffer = b""
        self._replies: list[Reply] = []
        self._silent = False  # the server has hung up
        self._refused = self._commands = 0

    # The client's turns

    def turn(self, octets: bytes, said: bytes, silent: bool) -> None:
        """The client said `octets`, waited, and heard `said`; `silent` is whether the server has hung up."""
        self._replies, self._silent = replies(said), silent
        if not self.closed:
            self._buffer += octets
            self._enter()
            while not self.closed and self._welcomed and self._step():
                pass
        self._nothing_more()

    def shaken(self) -> None:
        """The turn is over: the client's part of a handshake, where one is due."""
        if self._session.shaking and not self.closed:
            self._session.secured()

    def lost(self) -> None:
        """The connection was lost, at rest."""
        self.closed = True

    def late(self, said: bytes, silent: bool) -> None:
        """Five minutes passed."""
        self._replies, self._silent = replies(said), silent
        if not self.closed:
            if self._welcomed and not self._session.shaking:
                assert self._next().code == 421
            self.closed = True
        self._nothing_more()

    def gone(self, said: bytes, silent: bool) -> None:
        """The client has gone, and time has passed."""
        self._replies, self._silent = replies(said), silent
        if not self.closed and self._introduced and not self._welcomed:
            self._enter()
        self.closed = True
        self._nothing_more()

    def _nothing_more(self) -> None:
        assert not self._replies, f"nobody asked for {self._replies}"
        assert self._silent == self.closed, "it has hung up" if self._silent else "it goes on"

    def _enter(self) -> None:
        """What comes before the first command: PROXY header, handshake, banner."""
        if not self._introduced:
            header = introduced(self._buffer)
            if header is None or not header[0]:  # no header, or none in time: not a word
                self.closed = True
                return
            self._introduced, self._buffer = True, header[2]
            self._session.introduced(header[1])
        if self._session.shaking and self._buffer:
            self.closed = True
        elif not self._welcomed and not self._session.shaking:
            self._welcomed = True
            expect(self._next(), 220, status=False)

    def _next(self) -> Reply:
        assert self._replies, "a reply is missing"
        reply = self._replies.pop(0)
        self.how.append(f"{reply.code}{reply.status[1:]}")
        return reply

    def _hangs_up(self) -> None:
        assert self._silent, "it goes on"
        assert not self._replies, "it goes on"
        self.closed = True

    # Lines, chunks and contents

    def _step(self) -> bool:
        """One of them. False when it has not come whole."""
        if self._session.shaking:
            self.closed = bool(self._buffer)  # no handshake: the connection is gone without a word
            return False
        if self._session.content:
            return self._data_octets()
        if self._chunk is not None:
            return self._bdat_octets(*self._chunk)
        return self._line()

    def _line(self) -> bool:
        found = re.search(rb"[\r\n\0]", self._buffer)
        at = found.start() if found else len(self._buffer)
        if found is None or self._buffer[at:] == b"\r":
            if len(self._buffer) <= LONGEST_LINE + 1:
                return False
        elif at <= LONGEST_LINE and self._buffer.startswith(b"\r\n", at):
            line, self._buffer = self._buffer[:at], self._buffer[at + 2 :]
            self._commands += 1
            self._command(line)
            return True
        # Two servers may read it differently, or it has no end.
        assert self._next().code // 100 == 5
        self._hangs_up()
        return False

    def _command(self, line: bytes) -> None:
        first, self._first = self._first, False
        name = line.split(b" ")[0].upper().decode("latin-1")
        self.how.append(name if name in KNOWN | _FOREIGN else "?")
        if name == "BDAT" and len(line) + 2 <= LINE and announced(line) is not None:
            self._chunk = announced(line)  # its reply comes after its octets
            return
        reply = self._next()
        if reply.code < 400:
            assert len(line) + 2 <= LINE + _LONGER.get(name, 0) * self._session.esmtp, "a line that is too long"
            assert self.glued != "always" or name not in _ALONE or not self._buffer, f"octets behind {name}"
            self._session.taken(name, line[len(name) :], reply)
            if name == "QUIT":
                self._hangs_up()
            return
        self._refusal(reply, status=name not in {"EHLO", "HELO"})
        alone = name in _ALONE and bool(self._buffer) and self.glued != "never"
        assert self._worn_out or alone or not self._session.plain(name, line), f"{reply} to {line!r}"
        foreign = name in _FOREIGN or (first and _no_smtp(line))
        if foreign or name == "BDAT":
            self._hangs_up()
        elif name == "XCLIENT" or (alone and reply.code == 503):  # for some of their faults only
            self.closed = self.closed or (self._silent and not self._replies)

    def _refusal(self, reply: Reply, *, status: bool = True) -> None:
        """What any refusal is held to."""
        self._refused += 1
        assert reply.status or not status, reply
        if reply.code == 421:
            assert self._worn_out, reply
            self._hangs_up()

    @property
    def _worn_out(self) -> bool:
        return self._refused >= REFUSALS or self._commands > COMMANDS

    def _data_octets(self) -> bool:
        lines = self._buffer.split(b"\r\n")
        if b"." not in lines[:-1]:
            return False
        end = lines.index(b".")
        self._session.content, self._buffer = False, b"\r\n".join(lines[end + 1 :])
        assert self._session.mail is not None
        self._session.mail.content = b"".join(
            (line[1:] if line[:1] == b"." else line) + b"\r\n" for line in lines[:end]
        )
        self._end(self._session.mail, spoilt=any(bare(line) for line in lines[:end]))
        return True

    def _bdat_octets(self, size: int, last: bool) -> bool:
        if len(self._buffer) < size:
            return False
        octets, self._buffer, self._chunk = self._buffer[:size], self._buffer[size:], None
        mail = self._session.mail
        if mail is None or not mail.recipients or not self._session.esmtp:
            reply = self._next()
            assert reply.code >= 400, f"{reply} to a chunk that nobody wanted"
            self._refusal(reply)
            self._session.mail = None  # the transaction has failed (RFC 3030 section 2)
            return True
        mail.chunked, mail.content = True, mail.content + octets
        spoilt = bare(mail.content if last else mail.content.removesuffix(b"\r"))
        if last or spoilt or len(mail.content) > self.terms.message:
            self._end(mail, spoilt=spoilt, whole=last)
            return True
        reply = self._next()
        if reply.code >= 400:
            self._refusal(reply)
            self._session.mail = None
        else:
            expect(reply, 250)
        return True

    def _end(self, mail: Mail, *, spoilt: bool, whole: bool = True) -> None:
        """The end of a message, or a chunk that cannot be part of any."""
        reply = self._next()
        self._session.mail, mail.code = None, reply.code
        too_large = len(mail.content) > self.terms.message
        assert reply.code == 250 or reply.code >= 400, reply
        if spoilt or too_large:
            assert reply.code // 100 == 5, reply
            self._refusal(reply)
            if reply.code != 552 or not too_large:
                self._hangs_up()
            return
        assert whole or reply.code >= 400
        if reply.code >= 400:
            wanted = next((code for name, code in FATES.items() if mail.sender.startswith(name)), 0)
            assert wanted or self._worn_out or not (mail.plain and PLAIN_CONTENT.fullmatch(mail.content)), reply
            self._refusal(reply)
        if mail.content and not mail.content.endswith(b"\r\n"):
            mail.content += b"\r\n"  # a chunk may end anywhere; a message on its way by DATA cannot
        self.ended.append(mail)

    # What reached the relay

    def finish(self, sent: Sequence[Sent]) -> None:
        """All that reached the relay was validly sent, and all that was answered with 250 reached it."""
        rest = list(sent)
        for mail in self.ended:
            if mail.code == 250:
                assert rest, f"250 to what never reached the relay: {mail}"
                same(mail, rest.pop(0))
            elif rest and _is_same(mail, rest[0]):  # else it was refused before
                rest.pop(0)
        assert not rest, f"never validly sent: {rest}"


def same(mail: Mail, sent: Sent) -> None:
    """That is the mail: commands, content in both forms, and who sent it."""
    assert sent.delivered == (mail.code == 250), (mail, sent)
    assert sent.client == mail.client, (mail, sent)
    assert sent.backend == mail.backend, (mail, sent)
    first = " ".join([f"MAIL FROM:<{mail.sender}> SIZE={len(sent.content)}", *mail.words])
    assert sent.mail.decode() == first + "\r\n", (mail, sent)
    assert [line.decode() for line in sent.recipients] == [f"{line}\r\n" for line in mail.recipients], (mail, sent)
    assert sent.content.startswith(sent.prepended)
    same_content(mail.content, sent.content[len(sent.prepended) :])
    assert not bare(sent.content)
    assert unstuffed(sent.stuffed) == sent.content


def _is_same(mail: Mail, sent: Sent) -> bool:
    try:
        same(mail, sent)
    except AssertionError:
        return False
    return True
