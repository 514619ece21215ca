"""The doctor's rounds at the backends: found, reached, believed, asked. Nothing is delivered.

What proves a host here is what proves it to the relay (`relay/way`): the same targets, the same verifier, the same
connection. Where the proof fails the host is looked at once more without any, and told nothing but EHLO, to say what
it showed. Every step has a time limit.
"""

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cryptography import x509

from gateway import tls
from gateway.cli.doctor_finding import SOON_DAYS, Finding, days_left, ending, green, red, yellow
from gateway.clock import Clock
from gateway.config import Backend, Config
from gateway.config.certificate import UNREADABLE
from gateway.dns.resolver import Resolver
from gateway.mail.address import Mailbox
from gateway.mail.reply import printable
from gateway.mail.terms import Unavailable
from gateway.relay.client import Connection
from gateway.relay.fate import Broken, Step, Untrusted
from gateway.relay.probe import ENDINGS, calls_itself, takes_ending
from gateway.relay.recipients import nobody
from gateway.relay.targets import Endpoint, Target
from gateway.relay.trust import fingerprints
from gateway.relay.way import Way
from gateway.tls import Trust

_PROOFS = {"pkix": "certificate", "fingerprint": "fingerprint", "dane": "DANE"}
_DOMAINS = 5  # of one backend that are probed


@dataclass(frozen=True, slots=True)
class Rounds:
    """What a visit needs. `smuggle_to` is where the test of the end of data may deliver, or `None` for no such test."""

    config: Config
    resolver: Resolver
    clock: Clock
    contexts: tls.ClientContexts
    seconds: float
    smuggle_to: Mailbox | None = None

    @property
    def way(self) -> Way:
        return Way(self.config, self.config.hostname, self.resolver, self.clock, self.contexts)

    async def visit(self, name: str) -> list[Finding]:
        """All about one backend."""
        backend, where, way = self.config.backends[name], f"backend {name}", self.way
        try:
            async with asyncio.timeout(self.seconds):
                targets = await way.targets(backend).now()
        except (Broken, TimeoutError) as why:
            return [red(where, f"its hosts are not found: {_said(why)}", "mend its DNS records, or name hosts")]
        found = [] if backend.mx is None else [self._exchangers(where, targets)]
        visits = [self._host(name, backend, way, target) for target in targets]
        for findings in await asyncio.gather(*visits):
            found += findings
        return found

    @staticmethod
    def _exchangers(where: str, targets: Sequence[Target]) -> Finding:
        listed = ", ".join(target.endpoint.host for target in targets)
        return green(where, f"hosts by MX: {listed}{', secured by DNSSEC' if targets[0].secure else ''}")

    async def _host(self, name: str, backend: Backend, way: Way, target: Target) -> list[Finding]:
        where = f"backend {name} {target.endpoint}"
        try:
            async with asyncio.timeout(self.seconds):
                trust, sni = await way.verifier(backend).demand(target)
                addresses = await way.addresses.of(target.endpoint.host)
        except Untrusted as why:
            return [
                red(where, why.why, "see docs/BACKENDS.md; nothing is sent to it meanwhile"),
                await self._seen(target),
            ]
        except (Broken, Unavailable, TimeoutError) as why:
            return [red(where, f"not found: {_said(why)}", "mend its DNS records")]
        found: list[Finding] = []
        for address in addresses:
            at = where if len(addresses) == 1 else f"{where} at {address}"
            found += await self._address(at, name, backend, target.endpoint, address, trust, sni)
        return found

    async def _address(
        self, where: str, name: str, backend: Backend, endpoint: Endpoint, address: str, trust: Trust, sni: str
    ) -> list[Finding]:
        if _is_ours(self.config, address, endpoint.port):
            mend = "name the mail server itself; what is sent there comes back to us, until it is refused as a loop"
            return [red(where, "is one of our own listeners", mend)]
        seen: list[bytes] = []
        watched = replace(trust, judge=_watching(trust, seen))
        try:
            async with asyncio.timeout(self.seconds):
                connection = await Connection.open(endpoint, address, watched, sni, self.config.hostname)
        except Untrusted as why:
            mend = "offer STARTTLS there" if "STARTTLS" in why.why else "renew its certificate, or mend tls: here"
            return [red(where, why.why, mend), await self._shown(where, endpoint, address, sni)]
        except (Broken, TimeoutError) as why:
            return [red(where, _said(why), "is it running, and does a firewall let us through?")]
        try:
            async with asyncio.timeout(self.seconds * 3):
                proof = _PROOFS[backend.tls.verify] if trust.judge else "certificate"  # DANE has a second way
                found = [green(where, f"reached, STARTTLS, {proof} believed")]
                if await calls_itself(connection, self.config.hostname) == self.config.hostname:
                    mend = "is it this gateway? Then name the mail server; else give that one a name of its own"
                    found.append(yellow(where, f"calls itself {self.config.hostname}, as we do", mend))
                found += self._certificate(where, backend, seen)
                found += self._features(where, backend, connection)
                found += await self._recipients(where, name, backend, connection)
        except (Broken, TimeoutError) as why:
            found.append(red(where, f"breaks off: {_said(why)}", "look into its log"))
        finally:
            connection.abort()
        if self.smuggle_to is not None:
            found += await self._endings(where, endpoint, address, trust, sni, self.smuggle_to)
        return found

    def _certificate(self, where: str, backend: Backend, seen: Sequence[bytes]) -> list[Finding]:
        if not seen:
            return []
        now = self.clock.now()
        left, words = _described(seen[0], now)
        if backend.tls.verify != "pkix":  # dates may mean nothing
            return [green(where, words)]
        found = [yellow(where, words, "have it renewed in time") if left < SOON_DAYS else green(where, words)]
        if over := ending(_readable(seen[1:]), now):
            found.append(yellow(where, over, "let it send the chain that came with its certificate last"))
        return found

    def _features(self, where: str, backend: Backend, connection: Connection) -> list[Finding]:
        features, ours = connection.features, self.config.limits.message
        found: list[Finding] = []
        announced = features.get("SIZE", "")
        theirs = int(announced[:15]) if announced.isascii() and announced.isdecimal() else 0
        if 0 < theirs < ours:
            what = f"takes {theirs} octets at most, limits.message is {ours}"
            found.append(yellow(where, what, "senders learn it only from us: lower limits.message, or raise it there"))
        missing = [name for name in ("8BITMIME", "SMTPUTF8", "PIPELINING") if name not in features]
        if missing:
            what = f"does not offer {', '.join(missing)}"
            found.append(yellow(where, what, "mail that needs it is refused, or slower: switch it on there"))
        wanted = backend.tell_client.upper()
        if wanted != "OFF" and wanted not in features:
            found.append(yellow(where, f"does not offer {wanted} to us", f"allow it to {self.config.hostname} there"))
        return found or [green(where, f"offers {' '.join(sorted(features))}"[:300])]

    async def _recipients(self, where: str, name: str, backend: Backend, connection: Connection) -> list[Finding]:
        found: list[Finding] = []
        routed = [domain for domain, to in self.config.domains.items() if to.backend == name]
        for domain in [d for d in routed if not d.startswith("*.")][:_DOMAINS]:
            for sender in (None, Mailbox("postmaster", domain)):
                answer = await connection.ask(nobody(domain), sender)
                said = f"{answer.response.code} {printable(answer.response.lines[0])[:200]}"
                if answer.step is Step.MAIL and answer.response.code >= 400:
                    mend = "let this gateway send in any name" if sender else "RFC 5321 section 4.5.5 wants it accepted"
                    found.append(red(where, f"refuses MAIL FROM:<{sender or ''}>: {said}", mend))
                elif sender is not None:
                    continue
                elif answer.response.code < 400:
                    mend = "make it refuse unknown recipients, or strangers fill it and its bounces go astray"
                    found.append(yellow(where, f"accepts every recipient of {domain}", mend))
                elif answer.response.code >= 500:
                    found.append(green(where, f"verifies recipients of {domain}"))
                else:
                    found.append(yellow(where, f"does not say who is at {domain}: {said}", "look into its log"))
        if backend.verify_recipients == "off":
            what = "verify_recipients is off: refusals of recipients come after the mail"
            found.append(yellow(where, what, "remove it where the backend knows its recipients"))
        return found

    async def _endings(
        self, where: str, endpoint: Endpoint, address: str, trust: Trust, sni: str, to: Mailbox
    ) -> list[Finding]:
        async def one(octets: bytes) -> bool | None:
            async with asyncio.timeout(self.seconds):
                connection = await Connection.open(endpoint, address, trust, sni, self.config.hostname)
                return await takes_ending(connection, to, octets)

        outcomes = await asyncio.gather(*map(one, ENDINGS.values()), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, Broken | TimeoutError):
                return [yellow(where, f"end of data not tested: {_said(outcome)}", "try again")]
            if isinstance(outcome, BaseException):
                raise outcome
            if outcome is None:
                return [yellow(where, f"end of data not tested: refuses <{to}>", "name a mailbox that is there")]
        taken = [name for name, outcome in zip(ENDINGS, outcomes, strict=True) if outcome]
        if taken:
            mend = "mend it: smtpd_forbid_bare_newline in Postfix, an update elsewhere (SMTP smuggling)"
            return [red(where, f"takes {', '.join(taken)} for the end of a mail", mend)]
        return [green(where, "only CRLF.CRLF ends a mail")]

    async def _seen(self, target: Target) -> Finding:
        """What a host shows that may not even be asked."""
        where = f"{target.endpoint}"
        try:
            async with asyncio.timeout(self.seconds):
                addresses = await self.way.addresses.of(target.endpoint.host)
        except (Unavailable, TimeoutError) as why:
            return red(where, f"not found: {_said(why)}", "mend its DNS records")
        return await self._shown(where, target.endpoint, addresses[0], target.endpoint.host)

    async def _shown(self, where: str, endpoint: Endpoint, address: str, sni: str) -> Finding:
        """The certificate of who could not prove itself; told nothing but EHLO."""
        seen: list[bytes] = []
        trust = Trust(self.contexts.get(None, "1.2", judged=True), _noting(seen))
        try:
            async with asyncio.timeout(self.seconds):
                connection = await Connection.open(endpoint, address, trust, sni, self.config.hostname)
                connection.abort()
        except (Broken, TimeoutError) as why:
            if not seen:
                return yellow(where, f"shows no certificate: {_said(why)}", "offer STARTTLS there")
        return yellow(where, f"shows: {_described(seen[0], self.clock.now())[1]}", "compare it with tls: here")


def _is_ours(config: Config, address: str, port: int) -> bool:
    """True where that is one of our listeners. An unspecified one has every address that can be bound here."""
    there = ipaddress.ip_address(address.partition("%")[0])
    binds = [bind.address for listener in config.listeners for bind in listener.bind if bind.port == port]
    if not any(bind is not None and bind.is_unspecified and bind.version == there.version for bind in binds):
        return there in binds
    family = socket.AF_INET6 if there.version == 6 else socket.AF_INET
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as trial:
        trial.bind((address, 0))
        return True
    return False


def _watching(trust: Trust, seen: list[bytes]) -> tls.Judge:
    def judge(chain: Sequence[bytes]) -> str:
        seen.extend(chain)
        return trust.judge(chain) if trust.judge is not None else ""

    return judge


def _noting(seen: list[bytes]) -> tls.Judge:
    def judge(chain: Sequence[bytes]) -> str:
        seen.extend(chain)
        return "" if chain else "no certificate"

    return judge


def _readable(chain: Sequence[bytes]) -> list[x509.Certificate]:
    """Those of them whose name and dates can be read."""
    found = []
    for octets in chain:
        with contextlib.suppress(*UNREADABLE):
            certificate = x509.load_der_x509_certificate(octets)
            assert certificate.subject is not None
            assert certificate.not_valid_after_utc is not None
            found.append(certificate)
    return found


def _described(certificate: bytes, now: float) -> tuple[float, str]:
    """Days that are left, and the certificate in words."""
    try:
        leaf = x509.load_der_x509_certificate(certificate)
        left = days_left(leaf, now)
        names = ", ".join(_names(leaf)[:5]) or "no name"
    except UNREADABLE:
        return 0.0, f"a certificate that cannot be read, {fingerprints(certificate)[0]}"
    until = f"{leaf.not_valid_after_utc:%Y-%m-%d}"
    life = f"valid until {until}, {left:.0f} days" if left >= 0 else f"expired on {until}"
    return left, f"certificate of {printable(names)}, {life}; {' '.join(fingerprints(certificate))}"


def _names(leaf: x509.Certificate) -> list[str]:
    try:
        alternative = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return sorted(alternative.get_values_for_type(x509.DNSName))


def _said(why: BaseException) -> str:
    return printable(str(why)) or "no answer in time"
