"""Any DKIM-Signature and ARC set comes to a result; nothing that no signer wrote ever passes."""

import asyncio

from gateway.checks.arc import Arc
from gateway.checks.dkim import Dkim
from gateway.checks.seal import Sealer
from gateway.clock import ManualClock
from gateway.dns.resolver import Resolver
from gateway.dns.zone import Zone
from gateway.mail.message import Message
from gateway.mail.terms import Result
from tests.unit.checks.signing import MAIL, NOW, ed25519_key, ed25519_record, rsa_record, signed

LIMIT_MS = 50
_ZONE = {
    "sel._domainkey.example.org": {"TXT": [rsa_record()]},
    "ed._domainkey.example.org": {"TXT": [ed25519_record()]},
}
_RESOLVER = Resolver(Zone(_ZONE), ManualClock(NOW))
_SEALER = Sealer("example.org", "ed", ed25519_key())
_CLAUSES = ["spf=pass", "arc=none"]


def _sealed(octets: bytes) -> bytes:
    message = Message.from_octets(octets)
    fact = asyncio.run(Arc(_RESOLVER).verify(message))
    return asyncio.run(_SEALER.seal(message, (), "mx.example.org", _CLAUSES, fact, NOW)) + octets


_GOOD = [signed(), _sealed(MAIL), _sealed(_sealed(signed()))]
SEEDS = [octets.partition(b"From:")[0] for octets in _GOOD]
TOKENS = [
    *(b"DKIM-Signature:", b"ARC-Seal:", b"ARC-Message-Signature:", b"ARC-Authentication-Results:", b"\r\n", b"\r\n\t"),
    *(b";", b"=", b"i=1;", b"i=2;", b"cv=pass;", b"cv=none;", b"cv=fail;", b"l=0;", b"h=from;", b"x=1;", b"t=1;"),
    *(b"From: evil@example.net\r\n", b"=40", b"d=example.com;", b"a=rsa-sha1;", b"c=simple;", b"q=dns/txt;"),
]


def one(data: bytes) -> None:
    message = Message.from_octets(data + MAIL)
    found = asyncio.run(Dkim(_RESOLVER, ManualClock(NOW)).verify(message))
    assert len(found) == sum(field.key == b"dkim-signature" for field in message.fields)
    fact = asyncio.run(Arc(_RESOLVER).verify(message))
    authors = [field.raw for field in message.fields if field.key == b"from"]
    if any(one.result is Result.PASS for one in found) or fact.result is Result.PASS:
        assert MAIL.partition(b"\r\n")[0] + b"\r\n" in authors, "what passes signs the author that was there"
    sealed = asyncio.run(_SEALER.seal(message, (), "mx.example.org", _CLAUSES, fact, NOW))
    if sealed and not message.malformed:
        after = asyncio.run(Arc(_RESOLVER).verify(Message.from_octets(sealed + data + MAIL)))
        assert (after.result is Result.PASS) == (fact.result in {Result.NONE, Result.PASS}), (fact, after)
