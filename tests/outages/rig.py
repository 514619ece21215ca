"""A relay built from a real configuration, before scripted backends: what every outage test needs."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import structlog
import uvloop

from gateway.cli.testca import TestCa
from gateway.clock import ManualClock
from gateway.config import load_config
from gateway.dns.answer import Response, Source
from gateway.dns.resolver import Resolver
from gateway.dns.stub import Stub
from gateway.dns.zone import Zone
from gateway.files import DiskFiles
from gateway.mail.address import Mailbox
from gateway.mail.envelope import Envelope, Recipient, Session, Transaction
from gateway.mail.message import Message
from gateway.mail.terms import Unavailable
from gateway.relay.delivery import Fate, Relay
from gateway.relay.sts import Fetch
from gateway.state.store import Limited, PolicyRow, RecipientRow
from tests.outages.backend import Backend
from tests.support import certificates

NAME = "backend.example"
OCTETS = b"From: <a@example.org>\r\nSubject: x\r\n\r\nhello\r\n.dot\r\n..two\r\nend\r\n"
OURS = b"Received: by mx.example.com\r\n\twith ESMTP; now\r\n"


@dataclass
class Memory:
    """Recipients, policies and claims in dictionaries; `away` makes them unavailable."""

    known: dict[tuple[str, str], tuple[bool, float]] = field(default_factory=dict)
    policies: dict[str, PolicyRow] = field(default_factory=dict)
    claims: dict[str, float] = field(default_factory=dict)
    away: bool = False
    threads: None = None

    def _here(self) -> None:
        if self.away:
            raise Unavailable("state: away")

    def limit(self, key: str, *, now: float, rate: int, per: float) -> Limited:
        self._here()
        left = self.claims.get(key, now) - now
        if left <= 0:
            self.claims[key] = now + per / rate
        return Limited(left <= 0, max(left, 0.0))

    def policy(self, domain: str, now: float) -> PolicyRow | None:
        self._here()
        row = self.policies.get(domain)
        return row if row is not None and now < row.until else None

    def remember_policy(self, domain: str, row: PolicyRow) -> None:
        self._here()
        self.policies[domain] = row

    def recipient(self, backend: str, address: str, now: float) -> RecipientRow | None:
        self._here()
        known, until = self.known.get((backend, address), (False, 0.0))
        return RecipientRow(backend, address, known, until) if now < until else None

    def remember_recipient(self, backend: str, address: str, known: bool, until: float) -> None:
        self._here()
        self.known[backend, address] = (known, until)

    def forget_recipient(self, backend: str, address: str) -> None:
        self._here()
        self.known.pop((backend, address), None)


class Signed:
    """A zone file that DNSSEC vouches for, but for the names in `insecure`. `asked` are the questions."""

    def __init__(self, zone: Mapping[str, Any], insecure: Collection[str] = ()) -> None:
        self.zone = Zone(zone)
        self.insecure = insecure
        self.asked: list[tuple[str, str]] = []

    async def ask(self, name: str, rdtype: str, timeout: float) -> Response:
        self.asked.append((name, rdtype))
        return replace(await self.zone.ask(name, rdtype, timeout), authenticated=name not in self.insecure)


class Rig:
    """One CA in `directory`, any number of backends, and relays in front of them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ca = TestCa(directory)
        self.other_ca = TestCa(directory, "other")
        self.good = self.ca.issue(NAME)
        self.clock = ManualClock()
        self.store = Memory()
        self._running: list[Backend] = []
        self._relays: list[Relay] = []

    def context(self, kind: str = "good") -> ssl.SSLContext:
        """The server side's TLS: good, old, or with one of the bad certificates of `certificates.KINDS`."""
        if kind in ("good", "old"):
            pair = self.good
        elif kind == "wrong-ca":
            pair = self.other_ca.issue(NAME, file="wrong-ca")
        elif kind == "expired":
            pair = self.ca.issue(NAME, expired=True, file="expired")
        elif kind == "wrong-name":
            pair = self.ca.issue("other.example", file="wrong-name")
        else:
            pair = certificates.write(self.directory, kind, NAME, self.ca)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        if kind == "old":
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        return context

    async def backend(self, *scripts: Any, tls: str = "good", up: bool = True, **more: Any) -> Backend:
        """A scripted backend; one that is not `up` refuses connections until it is started."""
        backend = Backend(self.context(tls) if tls else None, scripts or ({},), **more)
        if up:
            await backend.start()
        else:
            backend.bind()
        self._running.append(backend)
        return backend

    def relay(
        self,
        *ports: int,
        verify: str = "off",
        seconds: float = 5.0,
        minimum: str = "1.2",
        share: dict[str, int] | int = 5,
        hosts: list[str] | None = None,
        name: str = NAME,
        tls: str = "",
        mx: str = "",
        more: str = "",
        zone: Mapping[str, Any] | None = None,
        insecure: Collection[str] = (),
        resolver: str = "",
        fetch: Fetch | None = None,
    ) -> Relay:
        """A relay before those ports, or before `hosts` or `mx`. `tls` and `more` are YAML of the backend.

        With `zone` DNS says that and validates it all, but for the names in `insecure`; with `resolver`, an address
        and a port, a real one is asked.
        """
        listed = ", ".join(f'"{h}"' for h in hosts or [f"127.0.0.1:{port}" for port in ports])
        where = f"mx: {mx}" if mx else f"hosts: [{listed}]"
        (self.directory / "policies").mkdir(exist_ok=True)
        (self.directory / "policies" / "empty.yaml").write_text("rules: []\n")
        file = self.directory / "zone.json"
        file.write_text('{"mail.example": {"A": ["127.0.0.1"]}, "two.example": {"A": ["127.0.0.2", "127.0.0.1"]}}')
        path = self.directory / "gatepost.yaml"
        path.write_text(
            f"""hostname: mx.example.com
listeners: [{{bind: "127.0.0.1:2525", starttls: "off"}}]
domains: {{example.com: {{backend: main}}, "*.example.net": {{backend: main}}}}
backends:
  main:
    {where}
    tls: {tls or f'{{ca: ca.pem, name: {name}, minimum: "{minimum}"}}'}
    {more}
    verify_recipients: {verify}
policies: policies
state: sqlite:{self.directory}/state.db
dns: {{zone: zone.json}}
deadlines: {{backend: {int(seconds * 1000)}ms}}
"""
        )
        config = load_config(path, DiskFiles())
        assert config.dns.zone is not None
        source: Source = Zone.load(config.dns.zone, DiskFiles())
        if zone is not None:
            source = Signed(zone, insecure)
        if resolver:
            source = Stub([resolver])
        asked = Resolver(source, self.clock)
        relay = Relay(config, config.hostname, asked, self.store, self.clock, share, fetch=fetch)  # type: ignore[arg-type]
        self._relays.append(relay)
        return relay

    async def stop(self) -> None:
        for relay in self._relays:
            await relay.close()
        for backend in self._running:
            await backend.stop()


def transaction(*recipients: str, octets: bytes = OCTETS, sender: str = "a@example.org", **more: Any) -> Transaction:
    session = Session("S1", "192.0.2.1", 4711, "192.0.2.25", 25, 0.0)
    envelope = Envelope(Mailbox.parse(sender.encode(), smtputf8=True) if sender else None, **more)
    envelope.recipients += [
        Recipient(Mailbox.parse(r.encode(), smtputf8=True)) for r in recipients or ("u@example.com",)
    ]
    return Transaction("T1", session, envelope, 0.0, Message.from_octets(octets))


async def deliver(relay: Relay, tx: Transaction | None = None, removed: frozenset[int] = frozenset()) -> Fate:
    return await relay.deliver("main", tx or transaction(), OURS, removed)


def run(directory: Path, test: Callable[[Rig], Awaitable[None]], *, loop: str = "asyncio") -> None:
    """Runs one test with a rig of its own, on either loop; nothing may be left running."""

    async def main() -> None:
        rig = Rig(directory)
        try:
            await test(rig)
        finally:
            await rig.stop()

    factory = uvloop.new_event_loop if loop == "uvloop" else None
    with asyncio.Runner(loop_factory=factory) as runner, quiet():
        runner.run(main())


@contextmanager
def quiet() -> Iterator[None]:
    """The log goes nowhere."""
    with structlog.testing.capture_logs():
        yield
