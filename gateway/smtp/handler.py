"""The face between the edge and the house: what decides (`Handler`), and what one listener allows (`Settings`).

`pipeline` is the handler; `worker` makes the settings from the configuration.
"""

from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Protocol

from gateway.mail.envelope import Envelope, Recipient, Session, Transaction
from gateway.mail.message import SPOOL_ABOVE, Message
from gateway.mail.reply import Reply
from gateway.smtp.events import Rules
from gateway.smtp.patience import Deadlines
from gateway.smtp.trusted import Networks

__all__ = ["Deadlines", "Handler", "Settings"]


class Handler(Protocol):
    """What decides. Every reply is final; an exception becomes 451 4.3.0 and never reaches the client."""

    def connected(self, session: Session) -> Awaitable[Reply | None]:
        """Before the banner. A reply (421) refuses the connection."""

    def familiar(self, session: Session) -> bool:
        """True when mail from the client's network was taken lately: its banner need not wait."""

    def greeted(self, session: Session) -> None:
        """HELO or EHLO was accepted."""

    def mail(self, session: Session, envelope: Envelope) -> Awaitable[tuple[Reply, Transaction | None]]:
        """MAIL: the reply, and on acceptance the transaction."""

    def rcpt(self, tx: Transaction, recipient: Recipient) -> Awaitable[Reply]:
        """RCPT: on acceptance the handler has added the recipient to the envelope."""

    def data(self, tx: Transaction, message: Message) -> Awaitable[Reply]:
        """After the final dot. Runs to its end even when the client has gone. `message` is closed afterwards."""

    def declined(self, session: Session, envelope: Envelope, reply: Reply) -> Reply:
        """The edge itself refused MAIL (too large, no memory): the reply with the id that it is on record under."""

    def refused(self, tx: Transaction, reply: Reply) -> None:
        """The edge itself refused a command (grammar, sequence, a limit), and the transaction goes on."""

    def aborted(self, tx: Transaction, why: str, refusal: Reply | None = None) -> None:
        """The transaction ended without `data`; `refusal` is the edge's own answer to it, where it gave one."""

    def disconnected(self, session: Session) -> None:
        """The connection is over; the last call for this session."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What one listener allows. Replaced as a whole on reload: connections keep those they began with."""

    rules: Rules
    connections: int = 2000
    connections_per_network: int = 50
    deadlines: Deadlines = field(default_factory=Deadlines)
    greeting_delay: float = 0.1
    implicit_tls: bool = False
    memory: int = 1_000_000_000  # octets of all messages, over all workers
    spool_above: int = SPOOL_ABOVE
    proxies: Networks = ()  # who must begin with a PROXY header
    xclient: Networks = ()  # who may say XCLIENT
