"""How a host of a backend must prove itself, decided before it is connected to: PKIX, fingerprints, DANE, MTA-STS.

`Verifier.demand` gives the `Trust` and the name to ask for (SNI), or raises `Broken`: then nobody is spoken to. There
is no answer that means "encrypt, and believe anybody": TLSA records that cannot be used, a bogus zone, MX records that
nobody vouches for are refusals (451), where an opportunistic sender would go on.

RFC 7672 (DANE for SMTP), RFC 8461 (MTA-STS), RFC 6125/9525 (names). Called by `hosts`.
"""

import hashlib
from collections.abc import Sequence
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.clock import Clock
from gateway.config.certificate import UNREADABLE
from gateway.dns.answer import NameType, Tlsa
from gateway.dns.resolver import Resolver
from gateway.log import log
from gateway.mail.terms import Unavailable
from gateway.relay import dane
from gateway.relay.fate import Untrusted
from gateway.relay.sts import Policies
from gateway.relay.targets import Target
from gateway.tls import Context, Trust

_MOST_ALIASES = 8
_ADDRESSES: tuple[NameType, ...] = ("A", "AAAA")


class Verifier(Protocol):
    """What a backend's configuration demands of each of its hosts."""

    async def demand(self, target: Target) -> tuple[Trust, str]:
        """The proof, and the name to ask for. Raises `Broken`."""


class Pkix:
    """By a certificate authority, for the name of the endpoint."""

    def __init__(self, context: Context) -> None:
        self._trust = Trust(context)

    async def demand(self, target: Target) -> tuple[Trust, str]:
        return self._trust, target.endpoint.name


class Pinned:
    """By SHA-256 fingerprints ("certificate:HEX", "key:HEX") of the server's own certificate; names and dates do not
    count, for whoever holds that key is the server."""

    def __init__(self, context: Context, pins: Sequence[str]) -> None:
        self._pins = frozenset(pins)
        self._trust = Trust(context, self._judge)

    async def demand(self, target: Target) -> tuple[Trust, str]:
        return self._trust, target.endpoint.name

    def _judge(self, chain: Sequence[bytes]) -> str:
        shown = fingerprints(chain[0]) if chain else ()
        if self._pins.isdisjoint(shown):
            return f"none of the fingerprints: it shows {' '.join(shown) or 'no certificate'}"
        return ""


def fingerprints(certificate: bytes) -> tuple[str, ...]:
    """Both fingerprints of a certificate (DER), as the configuration spells them."""
    found = [f"certificate:{hashlib.sha256(certificate).hexdigest()}"]
    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
        octets = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except UNREADABLE:  # or a key of a kind we do not know
        return tuple(found)
    return (*found, f"key:{hashlib.sha256(octets).hexdigest()}")


class Dane:
    """By TLSA records that DNSSEC vouches for (usages 2 and 3); `otherwise` where there are none."""

    def __init__(self, context: Context, resolver: Resolver, clock: Clock, otherwise: Verifier | None) -> None:
        self._context = context
        self._resolver = resolver
        self._clock = clock
        self._otherwise = otherwise

    async def demand(self, target: Target) -> tuple[Trust, str]:
        host = target.endpoint.host
        try:
            base, records = await self.records(target)
        except Unavailable as why:  # bogus, or lost: RFC 7672 section 2.1.1, never a downgrade
            raise Untrusted(f"DANE: {why}") from None
        if not records:
            if self._otherwise is not None:
                return await self._otherwise.demand(target)
            raise Untrusted(f"DANE: no TLSA records of {host} that DNSSEC vouches for")
        usable = dane.usable(records)
        if not usable:  # section 2.2 would encrypt and believe anybody; we do not
            raise Untrusted(f"DANE: none of the TLSA records of {host} is usable (usage 2 or 3)")
        names = [base, host, *([target.domain] if target.domain else [])]

        def judge(chain: Sequence[bytes]) -> str:
            return "" if dane.matches(names, usable, chain, self._clock.now()) else "DANE: no TLSA record matches"

        return Trust(self._context, judge), base

    async def records(self, target: Target) -> tuple[str, Sequence[Tlsa]]:
        """The TLSA base name and its records; none where DNSSEC does not vouch for every step (section 2.2)."""
        host, port = target.endpoint.host, target.endpoint.port
        if not target.secure:  # the MX records could be anybody's
            return host, ()
        bases = [host]
        name, secure = host, True
        for _ in range(_MOST_ALIASES):
            alias = await self._resolver.query(name, "CNAME")
            secure = secure and alias.authenticated
            if not alias.records:
                break
            name = alias.records[0]
        else:
            raise Unavailable(f"too many aliases from {host}")
        if name != host and secure and await self._vouched(name):
            bases.insert(0, name)  # section 2.2.2: the expanded name first, then the original
        elif name == host and not await self._vouched(host):
            return (
                host,
                (),
            )  # an insecure zone holds no TLSA records to be believed, and some name servers choke on them
        for base in bases:
            answer = await self._resolver.query(f"_{port}._tcp.{base}", "TLSA")
            if answer.records and answer.authenticated:
                return base, answer.records
        return host, ()

    async def _vouched(self, host: str) -> bool:
        """True where the addresses of the host are validated (section 2.2.2)."""
        answers = [await self._resolver.query(host, rdtype) for rdtype in _ADDRESSES]
        return all(answer.authenticated for answer in answers if answer.records) and any(a.records for a in answers)


class Exchanged:
    """PKIX for hosts that MX records name: somebody must vouch for the records themselves.

    That is an MTA-STS policy of the domain that names the host, DNSSEC, or `private`: authorities that the operator
    named, who certify nobody else's hosts. Without any of them a forged MX record would lead to a forger's host and to
    its perfectly good certificate. `strict`: a policy it must be (the second way of `verify: dane`).
    """

    def __init__(self, context: Context, policies: Policies, *, private: bool = False, strict: bool = False) -> None:
        self._trust = Trust(context)
        self._policies = policies
        self._private = private
        self._strict = strict
        self._reported: set[tuple[str, str]] = set()

    async def demand(self, target: Target) -> tuple[Trust, str]:
        host, domain = target.endpoint.host, target.domain
        policy = await self._policies.of(domain)
        if policy is not None and policy.mode == "none":
            policy = None
        if policy is not None and not policy.names(host):
            if policy.mode == "enforce":
                raise Untrusted(f"the MTA-STS policy of {domain} does not name {host}")
            self._report(domain, host)
            policy = None  # on trial it forbids nobody, and vouches for those alone that it names
        if policy is None and self._strict:
            raise Untrusted(f"no TLSA records of {host} that DNSSEC vouches for, and no MTA-STS policy of {domain}")
        if policy is None and not target.secure and not self._private:
            raise Untrusted(f"nobody vouches for the MX records of {domain}: no DNSSEC, no MTA-STS policy")
        return self._trust, target.endpoint.name

    def _report(self, domain: str, host: str) -> None:
        if (domain, host) not in self._reported and len(self._reported) < 1000:
            self._reported.add((domain, host))
            log.warning("MTA-STS policy (testing) does not name the host", domain=domain, host=host)
