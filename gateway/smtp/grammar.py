"""The grammar of single command lines: where a line ends, and what HELO, MAIL and RCPT may say.

Pure functions: octets in, values out, or `SyntaxRefused` with the reply to give. A bare CR, a bare LF or a NUL in a
command ends the connection: another parser might see two commands there.

RFC 5321 sections 4.1.1, 4.1.2, 4.5.3.1.4 (line length); RFC 1870 (SIZE), 6152 (BODY), 6531 (SMTPUTF8).
Called by `protocol`.
"""

import re
from dataclasses import replace

from gateway.mail.address import Mailbox, parse_path
from gateway.mail.envelope import Envelope
from gateway.mail.reply import Reply, SyntaxRefused

LINE_LIMIT = 512  # octets of a command with its CRLF (RFC 5321 section 4.5.3.1.4)
# What MAIL may be longer once EHLO offered them: SIZE (RFC 1870), 8BITMIME (6152), SMTPUTF8 (6531).
MAIL_LIMIT = LINE_LIMIT + 26 + 17 + 10
HANGUP_LINE = 2048  # longer ones come from no mail client: the connection ends

_BARE_SO_FAR = re.compile(rb"\r(?!\n|\Z)|\n|\0")  # a CR at the very end may yet get its LF
_BARE = re.compile(rb"[\r\n\0]")
_FOREIGN_FIRST = re.compile(rb"[\x16\x80]|SSH-|PROXY ", re.IGNORECASE)
_HTTP = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH", b"PRI"})
_KEYWORDS = frozenset({b"SIZE", b"BODY", b"SMTPUTF8"})

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

    Other protocols are cut off: TLS, SSH and PROXY by the `first` line of a connection, HTTP by any (ALPACA: a
    browser's headers come before the attacker's commands).
    """
    word, _, argument = line.partition(b" ")
    word = word.upper()
    if word in _HTTP or (first and _FOREIGN_FIRST.match(line)):
        raise SyntaxRefused(_FOREIGN, close=True)
    if len(line) + 2 > (MAIL_LIMIT if word == b"MAIL" and esmtp else LINE_LIMIT):
        raise SyntaxRefused(Reply(500, "5.5.2", ("The line is too long",)))
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


def mail(argument: bytes, *, esmtp: bool, size_limit: int) -> Envelope:
    """The envelope that `FROM:<path> parameters` opens."""
    if argument[:5].upper() != b"FROM:":
        raise syntax("MAIL FROM:<address>")
    # The path cannot be judged before the parameters behind it are known; `_parameters` reads them for real.
    smtputf8 = b"SMTPUTF8" in argument[argument.rfind(b">") + 1 :].upper()
    path, parameters = parse_path(argument[5:], smtputf8=smtputf8, what="reverse")
    envelope = _parameters(Envelope(path), parameters, esmtp=esmtp)
    if envelope.declared_size > size_limit:
        raise SyntaxRefused(Reply(552, "5.3.4", (f"The limit is {size_limit} octets",)))
    return envelope


def _parameters(envelope: Envelope, octets: bytes, *, esmtp: bool) -> Envelope:
    given: set[bytes] = set()
    for parameter in filter(None, octets.split(b" ")):
        keyword, equals, value = parameter.partition(b"=")
        keyword = keyword.upper()
        if not esmtp or keyword not in _KEYWORDS:
            raise SyntaxRefused(Reply(555, "5.5.4", ("Unknown parameter",)))
        if keyword in given:
            raise _bad_parameter("A parameter is given twice")
        given.add(keyword)
        if keyword == b"SIZE":
            if not value.isdigit() or len(value) > 20:
                raise _bad_parameter("SIZE=octets")
            envelope = replace(envelope, declared_size=int(value))
        elif keyword == b"BODY":
            if value.upper() not in {b"7BIT", b"8BITMIME"}:
                raise _bad_parameter("BODY is 7BIT or 8BITMIME")
            envelope = replace(envelope, body=value.decode("ascii").upper())
        else:
            if equals:
                raise _bad_parameter("SMTPUTF8 has no value")
            envelope = replace(envelope, smtputf8=True)
    return envelope


def rcpt(argument: bytes, *, smtputf8: bool) -> Mailbox:
    """The recipient of `TO:<path>`. Parameters were not offered and are refused."""
    if argument[:3].upper() != b"TO:":
        raise syntax("RCPT TO:<address>")
    mailbox, parameters = parse_path(argument[3:], smtputf8=smtputf8, what="forward")
    assert mailbox is not None  # only a reverse-path may be null
    if parameters:
        raise SyntaxRefused(Reply(555, "5.5.4", ("Unknown parameter",)))
    return mailbox


def nothing(argument: bytes, word: str) -> None:
    """Refuses an argument where none belongs."""
    if argument:
        raise syntax(f"{word} has no argument")


def syntax(form: str) -> SyntaxRefused:
    """501 with the form that would have been right."""
    return SyntaxRefused(Reply(501, "5.5.2", (f"Syntax: {form}",)))


def _bad_parameter(why: str) -> SyntaxRefused:
    return SyntaxRefused(Reply(501, "5.5.4", (why,)))
