"""One mail as it goes out: its commands, and its octets in pieces.

The octets are those that came in, with our fields before them and the forged ones left out; nothing else is ever
changed, and 25 MB are never held twice: pieces of 256 KB, dot-stuffed by `bytes.replace` (2 ms a megabyte at most).
Addresses are written as they were checked. An octet that would end a command line early is our bug: `ValueError`.

RFC 5321 sections 4.1.1 (commands) and 4.5.2 (dot-stuffing), RFC 1870, 6152, 6531, 3461 (parameters), 3030 (BDAT).
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from gateway.mail.address import Mailbox
from gateway.mail.envelope import Envelope, Recipient
from gateway.mail.message import Message
from gateway.mail.octets import clean, dotted
from gateway.mail.reply import Reply
from gateway.relay.introduction import Introduction

PIECE = 256 * 1024
#: What a backend offered in EHLO inside TLS: keyword in upper case, and its parameters.
Features = Mapping[str, str]
#: Said at RCPT, where the backend does not offer SMTPUTF8.
NO_UTF8 = Reply(553, "5.6.7", ("The mail server takes no UTF-8 in addresses and header fields",))

_CONTROL = re.compile(r"[\0-\x1f\x7f]")
_DSN_OF_MAIL = frozenset({"RET", "ENVID"})
_DSN_OF_RCPT = frozenset({"NOTIFY", "ORCPT"})


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What is to be relayed. `removed` are indices of `message.fields`."""

    envelope: Envelope
    recipients: tuple[Recipient, ...]
    prepended: bytes
    message: Message
    removed: frozenset[int] = field(default_factory=frozenset)
    introduction: Introduction | None = None
    #: Told the host at the last moment before the dot goes out: from then on the backend may have the mail.
    before_dot: Callable[[str], None] | None = None

    @property
    def size(self) -> int:
        """Octets that will be sent, without dot-stuffing (RFC 1870 section 3)."""
        gone = sum(len(self.message.fields[index].raw) for index in self.removed)
        return len(self.prepended) + self.message.size - gone

    def unfit(self, features: Features) -> Reply | None:
        """Why a host with these features cannot take the mail; `None` when it can. Nothing is converted."""
        largest = features.get("SIZE", "")[:18]
        if largest.isascii() and largest.isdecimal() and 0 < int(largest) < self.size:  # 0: no limit (RFC 1870)
            return Reply(552, "5.3.4", ("The mail server takes no message of this size",))
        if "SMTPUTF8" not in features:
            mailboxes = [self.envelope.reverse_path, *(r.mailbox for r in self.recipients)]
            if any(m is not None and m.is_utf8 for m in mailboxes):
                return Reply(553, "5.6.7", ("The mail server takes no UTF-8 addresses",))
            if self.envelope.smtputf8 and not self._ascii(0, self.message.body_offset):
                return Reply(554, "5.6.9", ("The mail server takes no UTF-8 header fields",))
        if "8BITMIME" not in features and not self._ascii(0, self.message.size):
            return Reply(554, "5.6.3", ("The mail server takes no 8-bit content",))
        return None

    def mail(self, features: Features) -> bytes:
        """The MAIL command."""
        parameters: list[str] = []
        if "SIZE" in features:
            parameters.append(f"SIZE={self.size}")
        if "8BITMIME" in features and self.envelope.body != "7BIT":
            parameters.append(f"BODY={self.envelope.body}")
        if "SMTPUTF8" in features and self.envelope.smtputf8:
            parameters.append("SMTPUTF8")
        parameters += _known(self.envelope.parameters, _DSN_OF_MAIL, features)
        return command("MAIL FROM:", self.envelope.reverse_path, parameters)

    def rcpt(self, features: Features) -> list[bytes]:
        """The RCPT commands in their order."""
        return [command("RCPT TO:", r.mailbox, _known(r.parameters, _DSN_OF_RCPT, features)) for r in self.recipients]

    def pieces(self) -> Iterator[bytes]:
        """The dot-stuffed octets in pieces; the last one, and only it, ends in the final dot."""
        held: list[bytes] = []
        total = 0
        line_start = True
        for segment in self._segments():
            octets = bytes(segment)
            # A lone LF never gets here (the edge refuses it). Should it, a dot behind it is stuffed all the same, so
            # that no reader of the other side can take it for the end of the mail.
            if line_start and octets.startswith(b"."):
                octets = b"." + octets
            line_start = octets.endswith(b"\n")
            if dotted(octets, b"\n."):
                octets = octets.replace(b"\n.", b"\n..")
            if held and total + len(octets) > PIECE:
                yield b"".join(held)
                held, total = [], 0
            held.append(octets)
            total += len(octets)
        held.append(b".\r\n" if line_start else b"\r\n.\r\n")
        yield b"".join(held)

    def chunk(self) -> Iterator[bytes]:
        """The mail as one BDAT command (RFC 3030) in pieces, its octets as they are: nothing ends it but its length."""
        held = [f"BDAT {self.size} LAST\r\n".encode("ascii")]
        total = 0
        for segment in self._segments():
            if total and total + len(segment) > PIECE:
                yield b"".join(held)
                held, total = [], 0
            held.append(bytes(segment))
            total += len(segment)
        yield b"".join(held)

    def _segments(self) -> Iterator[bytes | memoryview]:
        if self.prepended:
            _check_fields(self.prepended)
            yield self.prepended
        start = position = 0
        if self.removed:
            for index, header in enumerate(self.message.fields):
                if index in self.removed:
                    if position > start:
                        yield self.message.view(start, position)
                    start = position + len(header.raw)
                position += len(header.raw)
        yield from self.message.chunks(start, PIECE)

    def _ascii(self, start: int, stop: int) -> bool:
        return all(
            bytes(self.message.view(at, min(at + PIECE, stop))).isascii() for at in range(start, stop, PIECE)
        ) and (self.prepended.isascii())


def command(verb: str, mailbox: Mailbox | None, parameters: list[str]) -> bytes:
    """`verb:<mailbox> parameters` with its CRLF. Raises `ValueError` for octets that no command may hold."""
    line = " ".join([f"{verb}<{mailbox or ''}>", *parameters])
    # The last fence before the wire: whoever gets a CR, LF or NUL this far could say commands in our name.
    if _CONTROL.search(line):
        raise ValueError("a control octet in a command")
    return line.encode() + b"\r\n"


def _known(parameters: tuple[tuple[str, str], ...], names: frozenset[str], features: Features) -> list[str]:
    if "DSN" not in features:
        return []
    known = [f"{name}={value}" for name, value in parameters if name in names]
    return known if "SMTPUTF8" in features else [_ascii_form(parameter) for parameter in known]


def _ascii_form(parameter: str) -> str:
    """ORCPT may hold UTF-8 where SMTPUTF8 is; elsewhere it has another form (RFC 6533 section 3)."""
    if parameter.isascii():
        return parameter
    return "".join(character if character.isascii() else f"\\x{{{ord(character):02X}}}" for character in parameter)


def _check_fields(octets: bytes) -> None:
    if not octets.endswith(b"\r\n") or not clean(octets):
        raise ValueError("our fields are no whole lines")
