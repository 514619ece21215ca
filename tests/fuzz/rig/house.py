"""The house of the fuzz target: a configuration, rules and a zone, and a relay that writes down what it is given.

Checks, policy and pipeline are the real ones. A recipient's name says whether the backend knows it, a sender's what
becomes of the mail (`no`, `later`; `busy`, `never`, `lost`).
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.build import build, plan
from gateway.dns.resolver import Resolver
from gateway.dns.zone import Zone
from gateway.files import DiskFiles
from gateway.house import House
from gateway.mail.address import Mailbox
from gateway.mail.envelope import Transaction
from gateway.mail.reply import Reply
from gateway.relay.delivery import Answered, Delivered, Fate, Known, Refused, Relay, Unknown
from gateway.relay.outgoing import Outgoing
from gateway.state.sqlite import SqliteStore
from gateway.state.store import Store
from tests.fuzz.rig.network import Loop

HOSTNAME = "mx.example.com"
#: Octets a message and recipients a transaction.
MESSAGE, RECIPIENTS = 2000, 5
#: What a backend offers that can do everything.
FEATURES = dict.fromkeys(("PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "CHUNKING", "DSN"), "")
CONFIG = """
hostname: mx.example.com
listeners: [{bind: "127.0.0.1:0", starttls: off}]
domains:
  example.com: {backend: main}
  "*.example.org": {backend: main}
  xn--bcher-kva.example: {backend: main}
  other.example: {backend: second}
backends:
  main: {hosts: "127.0.0.1:1"}
  second: {hosts: "127.0.0.1:2"}
policies: policies
lists: policies/lists
state: sqlite:state.db
dns: {zone: zone.json}
"""
RULES = """
rules:
  - id: senders
    when: mail.domain == "refused.example"
    then: reject
  - id: unauthenticated
    when: spf.result == "fail"
    then: defer
  - id: recipients
    when: rcpt.address == "blocked@example.com"
    then: reject
  - id: subjects
    for: ["strict@example.com"]
    when: message.subject == "refuse" || dmarc.result == "fail"
    then: reject
  - id: tagged
    when: client.iprev != "pass"
    then: {tag: {name: X-Stranger, value: "{client.ip}"}}
"""
ZONE: dict[str, dict[str, list[str] | str]] = {
    "7.2.0.192.in-addr.arpa": {"PTR": ["mail.sender.example."]},
    "mail.sender.example": {"A": ["192.0.2.7"]},
    "sender.example": {"TXT": ["v=spf1 ip4:192.0.2.0/24 ?all"]},
    "spoofed.example": {"TXT": ["v=spf1 -all"]},
    "_dmarc.spoofed.example": {"TXT": ["v=DMARC1; p=reject"]},
    "broken.example": {"TXT": "SERVFAIL"},
}


@dataclass(slots=True)
class Sent:
    """What reached the relay: commands and content as a backend would read them."""

    mail: bytes
    recipients: list[bytes]
    content: bytes  # as BDAT carries it: our fields in front
    stuffed: bytes  # as DATA carries it
    prepended: bytes
    backend: str
    delivered: bool
    client: tuple[str, str, bool, bool]  # address, HELO, whether by ESMTP, whether inside TLS


class Ticking:
    """The loop's time as everybody's clock, and ids that are counted anew for each visit."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.ids = 0

    def now(self) -> float:
        return 1_700_000_000.0 + self._loop.now

    def monotonic(self) -> float:
        return self._loop.now

    def new_id(self) -> str:
        self.ids += 1
        return f"T{self.ids:011d}"


class Recorder(Relay):
    """Takes every mail and writes it down. Recipients and senders say by their names what becomes of them."""

    sent: list[Sent]

    async def known(self, backend: str, tx: Transaction, mailbox: Mailbox) -> Known:
        await asyncio.sleep(0.01)
        if mailbox.local.startswith("no"):
            return Known(Answered.NO, Reply(550, "5.1.1", ("No such mailbox",)))
        if mailbox.local.startswith("later"):
            return Known(Answered.UNKNOWN, Reply(451, "4.4.1", ("Nobody to ask",)))
        return Known(Answered.YES)

    async def deliver(
        self,
        backend: str,
        tx: Transaction,
        prepended: bytes,
        removed: frozenset[int],
        recipient: Mailbox | None = None,
        **_: Any,
    ) -> Fate:
        assert tx.message is not None
        assert recipient is None
        session, sender = tx.session, tx.envelope.reverse_path
        local = sender.local if sender else ""
        fate = next((fate for word, fate in FATES.items() if local.startswith(word)), DELIVERED)
        mail = Outgoing(tx.envelope, tuple(tx.envelope.recipients), prepended, tx.message, removed)
        chunk = b"".join(mail.chunk())
        self.sent.append(
            Sent(
                mail.mail(FEATURES),
                mail.rcpt(FEATURES),
                chunk[chunk.index(b"\r\n") + 2 :],
                b"".join(mail.pieces()),
                prepended,
                backend,
                isinstance(fate, Delivered),
                (session.client_ip, session.helo, session.esmtp, bool(session.tls)),
            )
        )
        await asyncio.sleep(0.01)
        return fate


DELIVERED = Delivered(Reply(250, "2.0.0", ("Kept",)), "127.0.0.1:1")
FATES: dict[str, Fate] = {
    "busy": Refused(Reply(451, "4.3.0", ("Later",))),
    "never": Refused(Reply(550, "5.7.0", ("Never",))),
    "lost": Unknown(Reply(451, "4.4.2", ("Lost",))),
}


def build_house(folder: Path, clock: Ticking) -> tuple[House, Recorder, Store]:
    """The house, its relay and its store, which are to be closed by the caller."""
    (folder / "policies" / "lists").mkdir(parents=True)
    (folder / "gatepost.yaml").write_text(CONFIG)
    (folder / "zone.json").write_text("{}")
    (folder / "policies" / "rules.yaml").write_text(RULES)
    made = plan(folder / "gatepost.yaml", DiskFiles(), clock, today=True)
    store = SqliteStore(folder / "state.db", clock)
    resolver = Resolver(Zone(ZONE), clock)
    house = build(made, clock=clock, store=store, resolver=resolver, journal=None, relay=Recorder)
    assert isinstance(house.relay, Recorder)
    return house, house.relay, store
