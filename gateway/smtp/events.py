"""What a dialogue says to whoever drives it, and the rules it keeps: plain values, no behaviour.

`Say`, `Greeted` and `StartTls` hold a reply ready to be written; `Mail`, `Rcpt`, `Content` and `Become` wait for a
decision.
"""

from dataclasses import dataclass
from typing import Literal

from gateway.mail.envelope import Envelope, Recipient
from gateway.mail.message import Message
from gateway.mail.reply import Reply
from gateway.smtp.xclient import Attributes

StartTlsMode = Literal["offered", "required", "off"]


@dataclass(frozen=True, slots=True)
class Rules:
    """What a door allows: our name, the limits (octets a message, recipients a transaction), STARTTLS.

    `chunking`: CHUNKING is offered; BDAT is taken from whoever says it all the same. `messages`: of a session.
    """

    hostname: str
    message: int = 35_000_000
    recipients: int = 100
    starttls: StartTlsMode = "off"
    chunking: bool = True
    messages: int = 10_000


@dataclass(frozen=True, slots=True)
class Say:
    """A reply that is settled. `ended` says why a transaction ended with it; `close` asks to hang up after it."""

    reply: Reply
    close: bool = False
    ended: str = ""


@dataclass(frozen=True, slots=True)
class Greeted:
    """HELO or EHLO was accepted. `name` is what the client calls itself: visible ASCII, but maybe no name at all."""

    name: str
    esmtp: bool
    reply: Reply
    ended: str = ""


@dataclass(frozen=True, slots=True)
class Mail:
    """A well-formed MAIL. Waits for `decide`."""

    envelope: Envelope


@dataclass(frozen=True, slots=True)
class Rcpt:
    """A well-formed RCPT. Waits for `decide`."""

    recipient: Recipient


@dataclass(frozen=True, slots=True)
class Content:
    """A message whose end has come. Waits for `decide`."""

    message: Message


@dataclass(frozen=True, slots=True)
class StartTls:
    """Write `reply`, shake hands, call `secured`; what was said in clear text is forgotten already."""

    reply: Reply
    ended: str = ""


@dataclass(frozen=True, slots=True)
class Become:
    """A trusted proxy says who the client is. Waits for `become`."""

    attributes: Attributes


Event = Say | Greeted | Mail | Rcpt | Content | StartTls | Become
