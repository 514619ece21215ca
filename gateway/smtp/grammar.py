"""The grammar of single command lines: where a line ends, and what HELO, MAIL and RCPT may say.

Pure functions: octets in, values out, or `SyntaxRefused` with the reply to give. A bare CR, a bare LF or a NUL in a
command ends the connection: another parser might see two commands there.

RFC 5321 sections 4.1.1, 4.1.2, 4.5.3.1.4 (line length). Called by `protocol`.
"""

import re

from gateway.mail.address import parse_path
from gateway.mail.envelope import Envelope, Recipient
from gateway.mail.reply import Reply, SyntaxRefused
from gateway.smtp import parameters

LINE_LIMIT = 512  # octets of a command with its CRLF (RFC 5321 section 4.5.3.1.4)
MAIL_LIMIT = LINE_LIMIT + parameters.MAIL_EXTRA
RCPT_LIMIT = LINE_LIMIT + parameters.RCPT_EXTRA
HANGUP_LINE = 2048  # longer ones come from no mail client: the connection ends

_BARE_SO_FAR = re.compile(rb"\r(?!\n|\Z)|\n|\0")  # a CR at the very end may yet get its LF
_BARE = re.compile(rb"[\r\n\0]")
# A TLS hello, Redis, JSON, XML, telnet: every command begins with a letter. SSH. Requests as of SIP and RTSP.
_FOREIGN_FIRST = re.compile(rb"[^A-Z ]|SSH-|.* [A-Z]+/\d\.\d\Z", re.IGNORECASE)
_HTTP = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH", b"PRI"})
_EXTENDED = {b"MAIL": MAIL_LIMIT, b"RCPT": RCPT_LIMIT}

# One reply for both faults, so that it is the same however the octets were cut.
_NO_LINE = Reply(500, "5.5.2", ("The line is too long, or has a bare CR, a bare LF or a NUL",))
_FOREIGN = Reply(500, "5.5.1", ("This is an SMTP server",))


def take_line(buffer: bytearray) -> bytes | None:
    """Removes the first line from `buffer` and gives it without its CRLF; `None` when it is not there yet."""
    end = buffer.find(b"\r\n")
    if end < 0:
        if len(buffer) > HANGUP_LINE + 1 or _BARE_SO_FAR.search(buffer):
            raise SyntaxRefused(_NO_LINE, close=True)
        return None
    if end > HANGUP_LINE or _BARE.search(buffer, 0, end):
        raise SyntaxRefused(_NO_LINE, close=True)
    line = bytes(buffer[:end])
    del buffer[: end + 2]
    return line


def word_and_argument(line: bytes, *, first: bool, esmtp: bool) -> tuple[bytes, bytes]:
    """The command's word in upper case, and its argument.

    Other protocols are cut off: by the `first` line of a connection where it can be no SMTP, HTTP by any (ALPACA: a
    browser's headers come before the attacker's commands), and so is PROXY: unasked, late or a second one, it is a lie.
    """
    word, _, argument = line.partition(b" ")
    word = word.upper()
    if word in _HTTP or word == b"PROXY" or (first and _FOREIGN_FIRST.match(line)):
        raise SyntaxRefused(_FOREIGN, close=True)
    if len(line) + 2 > (_EXTENDED.get(word, LINE_LIMIT) if esmtp else LINE_LIMIT):
        # Behind BDAT comes a chunk of octets that are no commands, nobody knows how many.
        raise SyntaxRefused(Reply(500, "5.5.2", ("The line is too long",)), close=word == b"BDAT")
    # Trailing white space is the one freedom of RFC 5321 section 4.1.1.
    return word, argument.rstrip(b" \t")


def greeting(argument: bytes) -> str:
    """What the client calls itself. Any visible ASCII will do: what it is worth, a check says and a policy decides."""
    # No enhanced status in replies to HELO and EHLO (RFC 2034 section 4).
    if not argument:
        raise SyntaxRefused(Reply(501, "", ("Say your name: EHLO host.example.com",)))
    if len(argument) > 255 or not all(33 <= octet <= 126 for octet in argument):
        raise SyntaxRefused(Reply(501, "", ("That is neither a host name nor an address literal",)))
    return argument.decode("ascii")


def mail(argument: bytes, *, esmtp: bool) -> Envelope:
    """The envelope that `FROM:<path> parameters` opens."""
    if argument[:5].upper() != b"FROM:":
        raise syntax("MAIL FROM:<address>")
    # Whether UTF-8 is allowed stands behind the path, so the path is read as if, and judged again.
    path, octets = parse_path(argument[5:], smtputf8=b"SMTPUTF8" in argument.upper(), what="reverse")
    envelope = parameters.of_mail(Envelope(path), octets, esmtp=esmtp)
    if not envelope.smtputf8:
        parse_path(argument[5:], smtputf8=False, what="reverse")
    return envelope


def rcpt(argument: bytes, *, smtputf8: bool, esmtp: bool) -> Recipient:
    """The recipient of `TO:<path> parameters`."""
    if argument[:3].upper() != b"TO:":
        raise syntax("RCPT TO:<address>")
    mailbox, octets = parse_path(argument[3:], smtputf8=smtputf8, what="forward")
    assert mailbox is not None  # only a reverse-path may be null
    return Recipient(mailbox, parameters.of_rcpt(octets, esmtp=esmtp, smtputf8=smtputf8))


def nothing(argument: bytes, word: str) -> None:
    """Refuses an argument where none belongs."""
    if argument:
        raise syntax(f"{word} has no argument")


def syntax(form: str) -> SyntaxRefused:
    """501 with the form that would have been right."""
    return SyntaxRefused(Reply(501, "5.5.2", (f"Syntax: {form}",)))
