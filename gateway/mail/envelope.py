"""Who speaks, for whom, to whom: the session, the envelope and the transaction that holds them.

RFC 5321 section 2.3.1 (envelope), 3461 (DSN parameters), 6152 (BODY), 6531 (SMTPUTF8).
A transaction is replaced, never wiped: nothing of the last one can be forgotten in the next.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.mail.address import Mailbox
    from gateway.mail.message import Message


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """What a client showed in its TLS handshake, and with it proved that it holds the key.

    `fingerprint` is the SHA-256 of the certificate (DER) in lower-case hex; `fault` is what kept it from being
    verified, "" for nothing; `names` are the DNS names of a verified one, as A-labels in lower case.
    """

    fingerprint: str
    fault: str
    names: tuple[str, ...] = ()


@dataclass(slots=True)
class Session:
    """One connection of a client. `server.py` makes it and fills in what the dialogue tells.

    `helo` is "" before HELO/EHLO; `esmtp` is true after EHLO. `tls` is "" in clear text, else the protocol
    version as OpenSSL names it ("TLSv1.3"), `cipher` its suite, `certificate` what the client showed there.
    """

    id: str
    client_ip: str  # canonical text; IPv4-mapped IPv6 addresses are written as IPv4
    client_port: int
    server_ip: str
    server_port: int
    started: float  # epoch seconds
    helo: str = ""
    esmtp: bool = False
    tls: str = ""
    cipher: str = ""
    certificate: ClientCertificate | None = None
    early_talker: bool = False
    told_helo: str = ""  # what a trusted proxy said that the client called itself
    gone: bool = False  # the connection is lost: nobody will hear what is answered


@dataclass(frozen=True, slots=True)
class Recipient:
    """One forward-path with its ESMTP parameters exactly as they came (name in upper case, value)."""

    mailbox: "Mailbox"
    parameters: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class Envelope:
    """The reverse-path (`None` is `<>`), its parameters, and the recipients accepted so far."""

    reverse_path: "Mailbox | None"
    declared_size: int = 0  # octets of SIZE=, 0 when absent
    body: str = "7BIT"  # 7BIT | 8BITMIME
    smtputf8: bool = False
    parameters: tuple[tuple[str, str], ...] = ()  # any others of MAIL
    recipients: list[Recipient] = field(default_factory=list)


@dataclass(slots=True)
class Transaction:
    """One mail on its way: from MAIL to the answer after the final dot (RFC 5321 section 3.3)."""

    id: str
    session: Session
    envelope: Envelope
    started: float  # epoch seconds
    message: "Message | None" = None
